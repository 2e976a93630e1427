"""Run the examples in other languages with the native plugin: `make languages`.

python -m tools.languages.languages [yaml] [move] [cluster-yaml] [cluster-move] [typescript]
    [cluster-typescript] [go]

Each is run against an emulator of the API: up, nothing to do, destroy. Clusters grow and shrink in
between. YAML is run by Pulumi's own language host; TypeScript and Go by their Automation APIs, with
SDKs that Pulumi's own generators make of the plugin's schema. The host and the generators are built
from their Go modules, once, into the user's cache folder.

Where `pulumi` has its own language host of TypeScript or Go, that runs the example, as its README
says: with `pulumi package add`, and with the commands of `pulumi` itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from .builds import BIN, HERE, ROOT, generate, has_host, yaml_host
from .commands import needed, step
from .project import COMMANDS, SSH_KEY, Project, check, expect, grow_and_shrink, run_chosen

# The newest that run on Node.js 20.
NODE_PACKAGES = ("@pulumi/pulumi@3.206.0", "typescript@5.9.3", "@types/node@20.19.0")
OTHER_KEY = "other"
"""Of another account of the emulator."""


def use_yaml(project: Project) -> None:
    project.env["PATH"] = os.pathsep.join([str(yaml_host().parent), project.env["PATH"]])


def run_yaml(project: Project) -> None:
    use_yaml(project)
    project.init(sshPublicKey=SSH_KEY, otherApiKey=OTHER_KEY)
    state = project.emulator.state
    accounts: set[int] = set()

    def command(name: str) -> str:
        if name == "preview":
            for key in (project.env["FAL_ADMIN_API_KEY"], OTHER_KEY):
                accounts.add(len(state.list(state.account_of(key))))
            return project.pulumi("preview", "--expect-no-changes")
        project.pulumi(name, "--yes", "--skip-preview")
        return project.pulumi("stack", "output", "--json") if name == "up" else ""

    outputs = project.live(command, machines=2)
    expect(accounts, {1})
    expect(outputs["otherStatus"], "ready")
    expect(outputs["ssh"] != outputs["otherSsh"], True)


def run_move(project: Project) -> None:
    """A stack moves from Python to YAML, by the program of the docs."""
    use_yaml(project)
    file = project.folder / "Pulumi.yaml"
    plugins = file.read_text().partition("plugins:")[2].partition("config:")[0]
    page = (ROOT / "docs" / "native-plugin.md").read_text().partition("## Move a stack")[2]
    declared = page.partition("```yaml\n")[2].partition("```")[0]
    declared = declared.replace("ssh-ed25519 AAAA... me@laptop", SSH_KEY)
    file.write_text("name: train\nruntime: {name: python, options: {virtualenv: venv}}\n")
    arguments = f"instance_type='gpu_1x_h100_sxm5', ssh_key={SSH_KEY!r}"
    program = f"import pulumi_fal\npulumi_fal.ComputeInstance('machine', {arguments})\n"
    (project.folder / "__main__.py").write_text(program)
    state = project.emulator.state
    with step("move: a stack of Python goes on in YAML"):
        project.init()
        project.pulumi("up", "--yes", "--skip-preview")
        made = state.alive()
        file.write_text(f"name: train\nruntime: yaml\nplugins:{plugins}{declared}")
        project.pulumi("up", "--yes", "--skip-preview")
        project.pulumi("preview", "--expect-no-changes")
        expect((state.alive(), state.creations), (made, 1))
        project.pulumi("destroy", "--yes", "--skip-preview")
        expect(state.alive(), set())


def run_cluster_yaml(project: Project) -> None:
    use_yaml(project)
    project.init(size="2")
    project.pulumi("config", "set", "sshPublicKey", SSH_KEY, "--secret")
    grow_and_shrink(project, lambda name: project.pulumi(*COMMANDS[name]), is_secret=True)


def run_cluster_move(project: Project) -> None:
    """A cluster moves from Python to the program of the example, which has no alias."""
    use_yaml(project)
    file = project.folder / "Pulumi.yaml"
    in_yaml = file.read_text()
    in_python = "runtime: {name: python, options: {virtualenv: venv}}"
    file.write_text(in_yaml.replace("runtime: yaml", in_python).partition("resources:")[0])
    program = f"import pulumi_fal\npulumi_fal.ComputeCluster('node', size=2, ssh_key={SSH_KEY!r})\n"
    (project.folder / "__main__.py").write_text(program)
    state = project.emulator.state
    with step("cluster-move: a cluster of Python goes on in YAML"):
        project.init(size="2", sshPublicKey=SSH_KEY)
        project.pulumi(*COMMANDS["up"])
        made = state.alive()
        file.write_text(in_yaml)
        project.pulumi(*COMMANDS["up"])
        project.pulumi(*COMMANDS["preview"])
        expect((state.alive(), state.creations), (made, 2))
        project.pulumi(*COMMANDS["destroy"])
        expect(state.alive(), set())


def as_the_readme_says(project: Project, **config: str) -> Callable[[str], str]:
    """Let the language's own host generate the SDK and run the program: what runs a command."""
    with step(f"{project.folder.name}: pulumi package add"):
        project.run(BIN / "pulumi", "package", "add", "./venv/bin/pulumi-resource-fal")
    project.init(**config)

    def command(name: str) -> str:
        project.pulumi(*COMMANDS[name])
        return project.pulumi("stack", "output", "--json") if name == "up" else ""

    return command


def with_typescript_sdk(project: Project) -> Path:
    """Install the SDK in the project, and return the compiler."""
    npm, name = needed("npm"), project.folder.name
    quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--silent")
    sdk = project.folder / "sdks" / "fal"
    generate("nodejs", sdk)
    with step(f"{name}: npm install"):
        project.run(npm, "install", *quietly, "--save-exact", *NODE_PACKAGES)
    with step(f"{name}: the SDK is compiled by tsc"):
        tsc = project.folder / "node_modules" / ".bin" / "tsc"
        project.run(tsc, "--project", sdk)
        shutil.copy(sdk / "package.json", sdk / "bin")
        project.run(npm, "install", *quietly, sdk)
    return tsc


def typescript(project: Project, **config: str) -> Callable[[str], str]:
    """Return what runs a command: Pulumi's own language host, or the Automation API."""
    if has_host("nodejs"):
        return as_the_readme_says(project, **config)
    node, tsc = needed("node"), with_typescript_sdk(project)
    with step(f"{project.folder.name}: the program is compiled by tsc"):
        shutil.copy(HERE / "typescript" / "run.ts", project.folder)
        settings = json.loads((project.folder / "tsconfig.json").read_text())
        settings["files"].append("run.ts")
        (project.folder / "tsconfig.json").write_text(json.dumps(settings))
        project.run(tsc, "--project", ".")
    project.init(**config)
    return lambda command: project.run(node, project.folder / "bin" / "run.js", command)


def run_typescript(project: Project) -> None:
    check(project, typescript(project, sshPublicKey=SSH_KEY))


def run_cluster_typescript(project: Project) -> None:
    grow_and_shrink(project, typescript(project, size="2", sshPublicKey=SSH_KEY))


def with_go_sdk(project: Project) -> str:
    """Have the project's module use the SDK, and return the compiler."""
    go = needed("go")
    sdk = project.folder / "sdks" / "fal"
    generate("go", sdk)
    module = re.search(r"(?m)^module (.+)$", (sdk / "go.mod").read_text())
    project.env |= {"GOFLAGS": "-mod=mod", "GOWORK": "off"}
    name = module[1] if module else ""
    project.run(go, "mod", "edit", f"-replace={name}=./sdks/fal", f"-require={name}@v0.0.0")
    return go


def run_go(project: Project) -> None:
    if has_host("go"):
        check(project, as_the_readme_says(project, sshPublicKey=SSH_KEY))
        return
    go = with_go_sdk(project)
    with step("go: the program and the SDK are built by go"):
        shutil.copy(HERE / "go" / "run.go", project.folder)
        project.run(go, "build", "-p=1", "-o", "bin/program", "./main.go", "./program.go")
        project.run(go, "build", "-p=1", "-o", "bin/run", "./run.go", "./program.go")
        project.run(go, "vet", "./main.go", "./program.go")
    project.init(sshPublicKey=SSH_KEY)
    check(project, lambda command: project.run(project.folder / "bin" / "run", command))


LANGUAGES = {
    "yaml": run_yaml,
    "move": run_move,
    "cluster-yaml": run_cluster_yaml,
    "cluster-move": run_cluster_move,
    "typescript": run_typescript,
    "cluster-typescript": run_cluster_typescript,
    "go": run_go,
}
EXAMPLES = {"move": "yaml", "cluster-move": "cluster-yaml"}


def main() -> None:
    run_chosen(LANGUAGES, lambda name: EXAMPLES.get(name, name))


if __name__ == "__main__":
    main()
