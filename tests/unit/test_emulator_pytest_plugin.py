"""The fixture `fal_emulator`; tests/e2e/test_pytest_plugin.py has it as a user does."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, test: str) -> str:
    """What pytest prints of it: a run of its own, to which nothing of this one's applies."""
    (folder / "test_mine.py").write_text(test)
    without = ("-p", "no:schemathesis")  # importing it takes longer than all else
    command = [sys.executable, "-m", "pytest", *without, "-q", f"--rootdir={folder}", str(folder)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    print(result.stdout, result.stderr)
    return result.stdout


def test_the_environment_leads_to_the_emulator_while_the_test_runs(tmp_path: Path) -> None:
    """The test can script its faults and change its machines."""
    test = """
import os
import pytest
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import NewInstance
from pulumi_fal.errors import FalError
from pulumi_fal.api.settings import resolve

def test_during(fal_emulator):
    settings = resolve(os.environ, lambda key: None)
    assert (settings.endpoint, settings.poll_interval) == (fal_emulator.url, 0.1)
    assert settings.settle_seconds == settings.absence_seconds == 1
    fal_emulator.faults.add("list", "403")
    with pytest.raises(FalError, match="403"):
        Client(settings).list_instances()
    fal_emulator.state.create(NewInstance("gpu_1x_h100_sxm5", "key"))
    assert len(Client(settings).list_instances()) == 1

def test_after():
    assert not {"FAL_COMPUTE_ENDPOINT", "FAL_COMPUTE_POLL_INTERVAL"} & set(os.environ)
"""
    assert "2 passed" in run(tmp_path, test)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """The user sees one sentence and no traceback."""
    test = "import sys\nsys.modules['uvicorn'] = None\ndef test(fal_emulator): pass\n"
    said = run(tmp_path, test)
    assert "The fixture fal_emulator needs uvicorn: pip install 'CLONE[emulator]'" in said
    assert "Traceback" not in said
