"""Checks that need environments of their own; `make compat` and `make audit` run them.

`.venv/bin/nox --list` shows all; arguments after `--` go to pytest:

    .venv/bin/nox -s "compat-3.12(sdk='locked')" -- tests/unit/test_retry.py
"""

from __future__ import annotations

import nox

LOCK = "requirements/dev.txt"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
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
    session.run("python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *tests)


@nox.session
def audit(session: nox.Session) -> None:
    """Look up the locked versions in the database of known vulnerabilities."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml(), "audit"))
    session.run("pip-audit", "--disable-pip", "--require-hashes", "-r", LOCK)
