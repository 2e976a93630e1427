"""The command itself: how it starts, what it lacks, and what it hands on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import pulumi_fal
from pulumi_fal.cli.app import cli

from ..commands import POSIX_SHELL


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_module_runs_as_a_command() -> None:
    """`python -m pulumi_fal.cli` works where no script is installed."""
    ended = run(sys.executable, "-m", "pulumi_fal.cli", "--version")
    assert (ended.returncode, ended.stdout) == (
        0,
        f"pulumi-fal, version {pulumi_fal.__version__}\n",
    )


def test_help_fits_a_terminal() -> None:
    """Each command has a line of help that is not cut off."""
    shown = CliRunner().invoke(cli, ["--help"]).stdout
    assert "..." not in shown.partition("Commands:")[2]
    for name in ("audit", "delete", "doctor", "emulator", "get", "import-file", "ls", "pending"):
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("shell, word", [("bash", "2"), ("zsh", "2"), ("fish", "f")])
def test_a_shell_completes_the_names_of_commands(shell: str, word: str) -> None:
    """Click prints a script for each shell, and what the script asks for."""
    name = "_PULUMI_FAL_COMPLETE"
    printed = CliRunner().invoke(cli, prog_name="pulumi-fal", env={name: f"{shell}_source"})
    assert f"{name}={shell}_complete" in printed.stdout
    asked = {name: f"{shell}_complete", "COMP_WORDS": "pulumi-fal pending f", "COMP_CWORD": word}
    assert "forget" in CliRunner().invoke(cli, prog_name="pulumi-fal", env=asked).stdout


@POSIX_SHELL
def test_bash_completes_after_the_command_of_the_docs() -> None:
    """The function that bash calls is run as it would run it."""
    page = Path(__file__).parents[2] / "docs" / "command-line.md"
    (line,) = [line for line in page.read_text().splitlines() if "bash_source" in line]
    ask = "COMP_WORDS=(pulumi-fal pending f) COMP_CWORD=2; _pulumi_fal_completion pulumi-fal"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = f'{line}; {ask}; echo "${{COMPREPLY[@]}}"'
    said = subprocess.check_output(["bash", "-c", program], text=True, env={"PATH": path})
    assert said == "forget\n"


def test_what_follows_emulator_is_the_emulators(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator's own help tells its options."""
    given: list[tuple[str, ...]] = []
    monkeypatch.setattr("pulumi_fal.emulator.__main__.main", given.append)
    CliRunner().invoke(cli, ["emulator", "--port", "0", "--help"])
    assert given == [("--port", "0", "--help")]
