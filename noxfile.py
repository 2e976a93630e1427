"""Checks that need environments of their own; `make compat`, `audit` and `dist` run most of them.

`.venv/bin/nox --list` shows all; arguments after `--` go to pytest:

    .venv/bin/nox -s "compat-3.12(sdk='locked')" -- tests/unit/test_client.py
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import nox

LOCK = "requirements/dev.txt"
ARCHIVES = "dist-plugin"
"""Where the plugin's archives and SHA256SUMS are: a package index would refuse them in dist/."""
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
OLDEST_SDK = "3.260.0"

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"


@nox.session(python=PYTHONS)
@nox.parametrize("sdk", [OLDEST_SDK, "locked"])
def compat(session: nox.Session, sdk: str) -> None:
    """Run the unit and plugin tests on a Python, with the oldest or the locked SDK."""
    session.install("--require-hashes", "-r", LOCK)
    session.install("--no-build-isolation", "--no-deps", "-e", ".")
    if sdk != "locked":
        session.install(f"pulumi=={sdk}")
    session.run("python", "tools/pulumi-cli/install.py", session.bin)
    tests = session.posargs or ("tests/unit", "tests/plugin")
    session.run("python", "-m", "pytest", "-q", "-n", "4", "--dist", "worksteal", *tests)


@nox.session(venv_params=["--seed"])  # with pip, which stories of the package run
@nox.parametrize("cli", ["v3.259.0", "v3.276.0"])
def engines(session: nox.Session, cli: str) -> None:
    """Run the stories of both hosts on the oldest and the newest `pulumi` that are supported."""
    session.install("--require-hashes", "-r", LOCK)
    session.install("--no-build-isolation", "--no-deps", "-e", ".")
    session.run("python", "tools/pulumi-cli/install.py", session.bin, cli)
    session.run("python", "tools/demo.py")
    tests = session.posargs or ("tests/e2e",)
    session.run("python", "-m", "pytest", "-q", "-n", "4", "--dist", "worksteal", *tests)


@nox.session
def audit(session: nox.Session) -> None:
    """Look up the locked versions in the database of known vulnerabilities."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml(), "audit"))
    session.run("pip-audit", "--disable-pip", "--require-hashes", "-r", LOCK)


@nox.session
@nox.parametrize("scheduler", ["skypilot", "dstack"])
def schedulers(session: nox.Session, scheduler: str) -> None:
    """Have the newest SkyPilot and dstack read the files by which they find machines."""
    session.install(".", scheduler)
    home = str(Path(session.create_tmp()).absolute())
    session.run("python", "tests/schedulers.py", scheduler, env={"HOME": home})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, with every link and anchor checked."""
    session.install("--require-hashes", "-r", "requirements/docs.txt")
    checked = ("--fail-on-warning", "--keep-going", "--nitpicky", "--quiet")
    shutil.rmtree("site", ignore_errors=True)
    session.run("sphinx-build", *checked, "-d", ".nox/doctrees", "-c", "tools/site", "docs", "site")


@nox.session
def dist(session: nox.Session) -> None:
    """Build the wheel and the sdist, as a package index wants them, and the plugin's archives."""
    session.install("--constraint", LOCK, "hatch-fancy-pypi-readme", "hatchling", "twine")
    for folder in ("dist", ARCHIVES):
        shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "hatchling", "build", "--directory", "dist")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    (wheel,) = Path("dist").glob("*.whl")
    session.run("python", "tools/plugin_archive.py", str(wheel), ARCHIVES)
    files = sorted(file for folder in ("dist", ARCHIVES) for file in Path(folder).iterdir())
    (Path(ARCHIVES) / "SHA256SUMS").write_text(checksums(files), encoding="utf-8", newline="\n")


def checksums(files: Iterable[Path]) -> str:
    """Return what `sha256sum --check` reads where all of the files are in one folder."""
    return "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files
    )


@nox.session(reuse_venv=False)
@nox.parametrize("kind", ["whl", "tar.gz"])
def installed(session: nox.Session, kind: str) -> None:
    """Install the file of that kind from dist/ into an empty environment, and use it there."""
    (file,) = Path("dist").absolute().glob(f"*.{kind}")
    session.install(f"{file}[emulator]")
    session.chdir(session.create_tmp())
    session.run("python", "-W", "error", "-c", "from pulumi_fal import ComputeInstance")
    session.run("pulumi-fal", "--version")


@nox.session(reuse_venv=False)
def plugin(session: nox.Session) -> None:
    """Install an archive from dist-plugin/ as Pulumi does, and have the plugin give its schema."""
    archive = next(Path(ARCHIVES).absolute().glob("*.tar.gz"))
    version = archive.name.split("-v")[1].split("-")[0]
    session.install("--constraint", LOCK, "pulumi")
    session.run("python", "tools/pulumi-cli/install.py", session.bin)
    session.chdir(session.create_tmp())
    shutil.rmtree("home", ignore_errors=True)
    env = {"PULUMI_HOME": str(Path("home").absolute()), "PULUMI_SKIP_UPDATE_CHECK": "1"}
    install = ("plugin", "install", "resource", "fal", version, "--file", str(archive))
    session.run("pulumi", *install, env=env)
    schema = session.run("pulumi", "package", "get-schema", f"fal@{version}", env=env, silent=True)
    if f'"version": "{version}"' not in str(schema):
        session.error(f"This is not the schema of version {version}:\n{schema}")
