"""Checks that need environments of their own; `make compat`, `audit` and `dist` run them.

`.venv/bin/nox --list` shows all; arguments after `--` go to pytest:

    .venv/bin/nox -s "compat-3.12(sdk='locked')" -- tests/unit/test_retry.py
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

LOCK = "requirements/dev.txt"
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


@nox.session
def audit(session: nox.Session) -> None:
    """Look up the locked versions in the database of known vulnerabilities."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml(), "audit"))
    session.run("pip-audit", "--disable-pip", "--require-hashes", "-r", LOCK)


@nox.session
def dist(session: nox.Session) -> None:
    """Build the wheel and the sdist into dist/, and hold them to what a package index asks."""
    session.install("--constraint", LOCK, "hatchling", "twine")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "hatchling", "build", "--directory", "dist")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))


@nox.session(reuse_venv=False)
@nox.parametrize("kind", ["whl", "tar.gz"])
def installed(session: nox.Session, kind: str) -> None:
    """Install the file of that kind from dist/ into an empty environment, and use it there."""
    (file,) = Path("dist").absolute().glob(f"*.{kind}")
    session.install(f"{file}[cli,emulator]")
    session.chdir(session.create_tmp())
    session.run("python", "-W", "error", "-c", "from pulumi_fal import ComputeInstance")
    session.run("pulumi-fal", "--version")
