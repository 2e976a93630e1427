#!/usr/bin/env python3
"""Compile every SDK with the examples in the schema's descriptions: `make languages`.

python -m tools.languages.descriptions [csharp] [go] [java] [python] [typescript] [yaml]

Those in Python and YAML are run, against an emulator. Those in C# are compiled where there is a
.NET SDK, 8 or newer; elsewhere the SDK for C# is only generated.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from pulumi_fal.api.models import NewInstance

from .builds import BIN, HERE, ROOT, generate
from .commands import needed, say, step
from .languages import use_yaml, with_go_sdk, with_typescript_sdk
from .project import SSH_KEY, Project, expect, run_chosen

SCHEMA = ROOT / "provider" / "pulumi_fal" / "native" / "schema.json"
LOCK = ROOT / "requirements" / "dev.txt"
PLACEHOLDER = "ssh-ed25519 AAAA... me@laptop"
UUID = r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
PLUGINS = "plugins: {providers: [{name: fal, path: venv/bin}]}\n"


def examples(language: str) -> dict[str, str]:
    """The example of each resource and function, by the resource's or function's name."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    found = {}
    for token, spec in {**schema["resources"], **schema["functions"]}.items():
        (block,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```", spec["description"])
        found[token.rpartition(":")[2]] = block
    return found


def with_csharp(project: Project) -> None:
    generate("csharp", project.folder / "sdks" / "fal")
    dotnet = shutil.which("dotnet")
    if dotnet is None:
        say("csharp: the SDK is only generated, not compiled: dotnet is not on PATH")
        return
    leave_no_server = ("-nodeReuse:false", "-p:UseSharedCompilation=false")
    for name, program in examples("csharp").items():
        folder = project.folder / name
        write(folder / "Program.cs", program)
        shutil.copy(HERE / "csharp" / "Example.csproj", folder)
        with step(f"csharp: the SDK and the example of {name} are compiled"):
            project.run(dotnet, "build", "-v:quiet", "-nologo", *leave_no_server, folder)


def with_go(project: Project) -> None:
    go = with_go_sdk(project)
    for name, program in examples("go").items():
        write(project.folder / name.lower() / "main.go", program)
    with step("go: the SDK and the examples are compiled"):
        project.run(go, "vet", *(f"./{name.lower()}" for name in examples("go")))


def with_java(project: Project) -> None:
    maven = needed("mvn")
    sdk = project.folder / "sdks" / "fal"
    generate("java", sdk)
    shutil.copy(HERE / "java" / "pom.xml", sdk)
    for name, program in examples("java").items():
        package = f"example.{name.lower()}"
        program = program.replace("package example;", f"package {package};")
        write(sdk / "src/main/java" / package.replace(".", "/") / "App.java", program)
    with step("java: the SDK and the examples are compiled"):
        project.run(maven, "--quiet", "--batch-mode", "--file", sdk / "pom.xml", "compile")


def with_typescript(project: Project) -> None:
    tsc = with_typescript_sdk(project)
    for name, program in examples("typescript").items():
        write(project.folder / f"{name}.ts", program)
    strict = ("--strict", "--target", "ES2020", "--module", "commonjs", "--skipLibCheck")
    with step("typescript: the examples are compiled"):
        project.run(tsc, "--noEmit", *strict, *(f"{name}.ts" for name in examples("typescript")))


def with_python(project: Project) -> None:
    sdk = project.folder / "sdks" / "fal"
    generate("python", sdk)
    with step("python: the SDK is installed"):
        uv = BIN / "uv"
        # Not by uv: Pulumi's own language host asks the environment's pip what is installed.
        project.run(BIN / "python", "-m", "venv", "env")
        project.run(uv, "pip", "install", "--quiet", "--python", "env", "--constraint", LOCK, sdk)
    runtime = "runtime: {name: python, options: {virtualenv: env}}\n"
    write(project.folder / "Pulumi.yaml", f"name: example\n{runtime}{PLUGINS}")
    main = project.folder / "__main__.py"

    def take(program: str) -> None:
        write(main, program)
        project.run(BIN / "mypy", "--strict", "--python-executable", "env/bin/python", main)

    live(project, "python", take)


def with_yaml(project: Project) -> None:
    use_yaml(project)
    live(project, "yaml", lambda text: write(project.folder / "Pulumi.yaml", text + PLUGINS))


def live(project: Project, language: str, take: Callable[[str], None]) -> None:
    """Each example: up, nothing to do, destroy."""
    state = project.emulator.state
    existing = state.create(NewInstance("gpu_1x_h100_sxm5", SSH_KEY)).id
    for name, program in examples(language).items():
        take(re.sub(UUID, existing, program.replace(PLACEHOLDER, SSH_KEY)))
        with step(f"{language}: the example of {name} runs"):
            if not (project.folder / "Pulumi.dev.yaml").exists():
                project.init()
            project.pulumi("up", "--yes", "--skip-preview")
            project.pulumi("preview", "--expect-no-changes")
            project.pulumi("destroy", "--yes", "--skip-preview")
            expect(state.alive(), {existing})
    expect(state.creations > 1, True)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


LANGUAGES = {
    "csharp": with_csharp,
    "go": with_go,
    "java": with_java,
    "python": with_python,
    "typescript": with_typescript,
    "yaml": with_yaml,
}


def main() -> None:
    run_chosen(LANGUAGES, lambda language: language if language in ("go", "typescript") else "yaml")


if __name__ == "__main__":
    main()
