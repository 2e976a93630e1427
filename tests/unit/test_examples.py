"""What of the examples can be tried without an engine."""

from __future__ import annotations

import subprocess
import sys

from ..docs import ROOT

EXAMPLES = ROOT / "examples"


def test_the_users_test_does_not_use_the_configuration_of_a_folder_above() -> None:
    """Inside a clone, pytest would find that of this project, whose plugins a user lacks."""
    command = ["-m", "pytest", "--collect-only", "-p", "no:timeout", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=EXAMPLES / "test-your-stack",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 test collected" in ended.stdout


def test_the_automation_script_names_a_key_file_that_is_missing() -> None:
    """The script says so before it makes a stack, and without a traceback."""
    ended = subprocess.run(
        [sys.executable, "main.py", "missing.pub", "true"],
        cwd=EXAMPLES / "automation-api",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, "missing.pub: No such file or directory\n")
