"""Run the examples in other languages, and compile the SDKs with the schema's examples.

python -m tools.languages [csharp] [go] [java] [python] [typescript] [yaml]

`pulumi` generates the SDKs with its own language hosts, which the official bundle has. Where the
host or the compiler of a language is missing, the language is left out, unless it was named. The
host of YAML needs no SDK, and is built from its Go modules where it is missing.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pulumi_fal.emulator.server import EmulatorServer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent
SCHEMA = ROOT / "provider" / "pulumi_fal" / "native" / "schema.json"
SSH_KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} languages"  # has no private key
SIZES = {"yaml": [2], "typescript": [1], "go": [1]}
"""How many machines the examples have, one after the other. Clusters grow and shrink."""
NODE_PACKAGES = ("@pulumi/pulumi@3.206.0", "typescript@5.9.3", "@types/node@20.19.0")
"""The newest that run on Node.js 20."""


class Failed(Exception):
    """What went wrong, with the output that shows it."""


class Missing(Failed):
    """A language host or a compiler is not there."""


class Folder:
    """A folder with a backend of its own for `pulumi`, and an emulator."""

    def __init__(self, path: Path, emulator: EmulatorServer) -> None:
        self.path, self.emulator = path, emulator
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
        self.env = {
            **kept,
            **emulator.env,
            "PATH": os.pathsep.join([str(path / "bin"), str(BIN), kept.get("PATH", os.defpath)]),
            "PULUMI_HOME": str(path / "home"),
            "PULUMI_BACKEND_URL": f"file://{path}",
            "PULUMI_CONFIG_PASSPHRASE": "languages",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "FAL_COMPUTE_POLL_INTERVAL": "0.1",
            "GOFLAGS": "-mod=mod",
            "GOWORK": "off",
        }

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """The command's stdout. It fails with all of its output, also if Pulumi warns."""
        words = [str(word) for word in command]
        words[0] = str(needed(words[0]))
        ended = subprocess.run(
            words,
            cwd=cwd or self.path,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        output = ended.stdout + ended.stderr
        # Pulumi only warns where it takes a plugin from elsewhere than it should.
        if ended.returncode or re.search("warning: (?!using pulumi-language)", output):
            raise Failed(f"`{' '.join(words)}` exited with {ended.returncode}:\n{output}")
        return ended.stdout

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def sdk(self, language: str) -> Path:
        """Generate the SDK for the language, and return its folder."""
        needs_host(language)
        command = (BIN / "pulumi", "package", "gen-sdk", BIN / "pulumi-resource-fal", "--local")
        self.run(*command, "--language", language, "--out", "sdks")
        return self.path / "sdks" / language


def needed(program: str) -> Path:
    found = shutil.which(program)
    if found is None:
        raise Missing(f"{program} is not on PATH")
    return Path(found)


def needs_host(language: str) -> None:
    """The hosts are on the PATH that `make setup` gives to `pulumi`, with those it has found."""
    path = shlex.split((BIN / "pulumi").read_text().splitlines()[1])[0].removeprefix("PATH=")
    host = shutil.which(f"pulumi-language-{language}", path=path.removesuffix(":$PATH"))
    if host is None or Path(host).read_bytes().startswith(b"#!"):
        raise Missing(f"pulumi has no language host of its own for {language}")


def examples(language: str) -> dict[str, str]:
    """The schema's examples by the name of their resource or function."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    described = {**schema["resources"], **schema["functions"]}
    return {
        token.rpartition(":")[2]: program
        for token, spec in described.items()
        for program in re.findall(rf"(?ms)^```{language}\n(.*?)^```", spec["description"])
    }


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise Failed(f"expected {wanted!r}, not {found!r}")


@contextmanager
def folder() -> Iterator[Folder]:
    with (
        tempfile.TemporaryDirectory(prefix="pulumi-fal-languages-") as path,
        EmulatorServer(provisioning=0.5, deletion=0.2, api_key=None) as emulator,
    ):
        yield Folder(Path(path), emulator)


def live(name: str, at: Folder) -> None:
    """Do with an example what its README says: create, change nothing, and destroy."""
    project, state = at.path / name, at.emulator.state
    left_out = shutil.ignore_patterns("venv", "sdks", "node_modules", "bin", "Pulumi.*.yaml")
    shutil.copytree(ROOT / "examples" / name, project, ignore=left_out)
    (project / "venv").symlink_to(sys.prefix, target_is_directory=True)

    def pulumi(*words: str) -> str:
        return at.run(BIN / "pulumi", *words, "--non-interactive", cwd=project)

    if name not in ("yaml", "cluster-yaml"):
        pulumi("package", "add", "./venv/bin/pulumi-resource-fal")
    pulumi("stack", "init", "dev")
    is_secret = "yaml" in name  # the other programs read it as a plain text
    secret = ["--secret"] if is_secret else []
    pulumi("config", "set", "sshPublicKey", SSH_KEY, *secret)
    if name == "yaml":
        pulumi("config", "set", "otherApiKey", "other", "--secret")
    for size in SIZES.get(name, [2, 3, 1]):
        if name not in SIZES:
            pulumi("config", "set", "size", str(size))
        pulumi("up", "--yes", "--skip-preview")
        pulumi("preview", "--expect-no-changes")
        expect(len(state.alive()), size)
        outputs = pulumi("stack", "output", "--json", "--show-secrets")
        expect([machine.id for machine in state.list() if str(machine.ip) not in outputs], [])
    expect(SSH_KEY.split()[1] in pulumi("stack", "export"), not is_secret)
    pulumi("destroy", "--yes", "--skip-preview")
    expect(state.alive(), set())


def with_yaml(at: Folder) -> None:
    if not shutil.which("pulumi-language-yaml"):
        say("yaml: building its host from its Go modules, 1 to 5 minutes ...")
        at.env |= {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
        package = "github.com/pulumi/pulumi-yaml/cmd/pulumi-language-yaml"
        flags = ("-p=1", "-buildvcs=false", "-trimpath", "-ldflags=-s -w")
        host = at.path / "bin" / "pulumi-language-yaml"
        at.run("go", "build", *flags, "-o", host, package, cwd=HERE / "yaml")
    live("yaml", at)
    with folder() as other:
        other.env["PATH"] = at.env["PATH"]
        live("cluster-yaml", other)


def with_typescript(at: Folder) -> None:
    quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--silent")
    sdk = at.sdk("nodejs")
    at.run("npm", "install", *quietly, "--save-exact", *NODE_PACKAGES)
    tsc = at.path / "node_modules" / ".bin" / "tsc"
    at.run(tsc, "--project", sdk)
    shutil.copy(sdk / "package.json", sdk / "bin")
    at.run("npm", "install", *quietly, sdk)
    files = [at.write(f"{name}.ts", text) for name, text in examples("typescript").items()]
    strict = ("--strict", "--target", "ES2020", "--module", "commonjs", "--skipLibCheck")
    at.run(tsc, "--noEmit", *strict, *files)
    for name in ("typescript", "cluster-typescript"):
        with folder() as other:
            live(name, other)


def with_go(at: Folder) -> None:
    sdk = at.sdk("go")
    (module,) = sdk.rglob("go.mod")
    (name,) = re.findall(r"(?m)^module (.+)$", module.read_text())
    shutil.copy(ROOT / "examples" / "go" / "go.mod", at.path)
    at.run("go", "mod", "edit", f"-replace={name}={module.parent}", f"-require={name}@v0.0.0")
    for example, text in examples("go").items():
        at.write(f"{example.lower()}/main.go", text)
    at.run("go", "vet", *(f"./{example.lower()}" for example in examples("go")))
    with folder() as other:
        live("go", other)


def with_java(at: Folder) -> None:
    sdk = at.sdk("java")
    shutil.copy(HERE / "java" / "pom.xml", sdk)
    for name, text in examples("java").items():
        package = f"example.{name.lower()}"
        text = text.replace("package example;", f"package {package};")
        at.write(f"sdks/java/src/main/java/{package.replace('.', '/')}/App.java", text)
    at.run("mvn", "--quiet", "--batch-mode", "--file", sdk / "pom.xml", "compile")


def with_csharp(at: Folder) -> None:
    at.sdk("dotnet")
    for name, text in examples("csharp").items():
        at.write(f"{name}/Program.cs", text)
        shutil.copy(HERE / "csharp" / "Example.csproj", at.path / name)
        server = ("-nodeReuse:false", "-p:UseSharedCompilation=false")  # none is left behind
        at.run("dotnet", "build", "-v:quiet", "-nologo", *server, at.path / name)


def with_python(at: Folder) -> None:
    sdk, lock = at.sdk("python"), ROOT / "requirements" / "dev.txt"
    at.run(BIN / "uv", "venv", "--quiet", "env")
    at.run(BIN / "uv", "pip", "install", "--quiet", "--python", "env", "--constraint", lock, sdk)
    for name, text in examples("python").items():
        program = at.write(f"{name}.py", text)
        at.run(BIN / "mypy", "--strict", "--python-executable", "env/bin/python", program)


LANGUAGES: dict[str, Callable[[Folder], None]] = {
    "csharp": with_csharp,
    "go": with_go,
    "java": with_java,
    "python": with_python,
    "typescript": with_typescript,
    "yaml": with_yaml,
}


def say(message: str) -> None:
    print(f"languages: {message}", flush=True)


def main() -> None:
    named = sys.argv[1:]
    if set(named) - set(LANGUAGES):
        sys.exit(f"languages: known are {', '.join(LANGUAGES)}")
    is_failed = False
    for language in named or LANGUAGES:
        try:
            with folder() as at:
                LANGUAGES[language](at)
        except Failed as reason:
            is_left_out = isinstance(reason, Missing) and not named
            say(f"{language}: {'left out, because' if is_left_out else 'FAILED:'} {reason}")
            is_failed = is_failed or not is_left_out
        else:
            say(f"{language} works")
    sys.exit(is_failed)


if __name__ == "__main__":
    main()
