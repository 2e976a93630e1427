"""The programs that are built from Go modules, once, and what they generate."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sys
from pathlib import Path

from .commands import YAML_HOST, needed, run, step

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent
PLUGIN = BIN / "pulumi-resource-fal"


def built(name: str, source: Path, package: str) -> Path:
    """The program of the Go package, built in the folder of its go.mod when it is first needed."""
    digest = hashlib.sha256()
    for file in sorted(source.iterdir()):
        digest.update(file.read_bytes())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    program = base / "pulumi-fal" / "languages" / digest.hexdigest()[:12] / name
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        new = program.with_name(f".{name}-{os.getpid()}")
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
        flags = ("-p=1", "-buildvcs=false", "-trimpath", "-ldflags=-s -w")
        with step(f"building {name} from its Go modules, 1 to 5 minutes, once"):
            run(needed("go"), "build", *flags, "-o", new, package, cwd=source, env=env)
        new.replace(program)
    return program


def yaml_host() -> Path:
    """That of the official bundle where it is installed."""
    installed = shutil.which(YAML_HOST)
    if installed:
        return Path(installed)
    return built(YAML_HOST, HERE / "yaml", f"github.com/pulumi/pulumi-yaml/cmd/{YAML_HOST}")


def generate(language: str, folder: Path) -> None:
    """Write the SDK for the language, from the schema as the engine gets it from the plugin."""
    schema = folder.parent / "schema.json"
    env = {**os.environ, "PULUMI_HOME": str(folder.parent / "home")}
    schema.write_text(run(BIN / "pulumi", "package", "get-schema", PLUGIN, cwd=ROOT, env=env))
    source = HERE / ("generate-older" if language in ("csharp", "java") else "generate")
    run(built("generate", source, "."), language, schema, folder, cwd=ROOT)


def has_host(language: str) -> bool:
    """Whether `pulumi` has its own host of the language, which `make setup` puts beside it."""
    path = shlex.split((BIN / "pulumi").read_text().splitlines()[1])[0].removeprefix("PATH=")
    return shutil.which(f"pulumi-language-{language}", path=path) is not None
