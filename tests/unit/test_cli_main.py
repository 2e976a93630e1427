"""The command itself: how it starts, what it lacks, and what it hands on."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

import pulumi_fal
from pulumi_fal.cli.app import cli


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_module_runs_as_a_command() -> None:
    """`python -m pulumi_fal.cli` works where no script is installed."""
    ended = run(sys.executable, "-m", "pulumi_fal.cli", "--version")
    assert (ended.returncode, ended.stdout) == (
        0,
        f"pulumi-fal, version {pulumi_fal.__version__}\n",
    )


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_how_to_get_it(missing: str) -> None:
    """Without the extra, one sentence says how to install it and the exit code is 1."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from pulumi_fal.cli.__main__ import main; main()"
    )
    ended = run(sys.executable, "-c", program)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"The command line needs {missing}: pip install 'CLONE[cli]', where CLONE is the "
        "path or URL of the pulumi-fal repository.\n"
    )


def test_help_fits_a_terminal() -> None:
    """Each command has a line of help that is not cut off."""
    shown = CliRunner().invoke(cli, ["--help"]).stdout
    assert "..." not in shown.partition("Commands:")[2]
    for name in ("audit", "delete", "doctor", "emulator", "get", "import-file", "ls", "pending"):
        assert f"\n  {name} " in shown


def test_what_follows_emulator_is_the_emulators(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator's own help tells its options."""
    given: list[tuple[str, ...]] = []
    monkeypatch.setattr("pulumi_fal.emulator.__main__.main", given.append)
    CliRunner().invoke(cli, ["emulator", "--port", "0", "--help"])
    assert given == [("--port", "0", "--help")]
