"""The pytest fixture `fal_emulator`. Every pytest run imports this module, so it must be cheap."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from pulumi_fal.emulator import INSTALL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulumi_fal.emulator.server import EmulatorServer

# Emulated machines are ready, and gone, sooner than real ones.
_QUICK = {
    "FAL_COMPUTE_POLL_INTERVAL": "0.1",
    "FAL_COMPUTE_SETTLE": "1",
    "FAL_COMPUTE_ABSENCE": "1",
}


@pytest.fixture
def fal_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorServer]:
    """Run an emulator of fal Compute for this test, and set the environment variables for it.

    Its machines are ready after 0.2 seconds, and gone 0.1 seconds after their deletion. Use
    `fal_emulator.state` and `fal_emulator.faults` to change that. Dynamic providers run with the
    Python that runs the tests, unless PULUMI_PYTHON_CMD is set.
    """
    for needed in ("fastapi", "uvicorn"):
        if find_spec(needed) is None:
            pytest.fail(
                f"The fixture fal_emulator needs {needed}. To install it:\n  {INSTALL}",
                pytrace=False,
            )
    from pulumi_fal.emulator.server import EmulatorServer

    with EmulatorServer(provisioning=0.2, deletion=0.1) as emulator:
        for name, value in {**emulator.env, **_QUICK}.items():
            monkeypatch.setenv(name, value)
        if "PULUMI_PYTHON_CMD" not in os.environ:
            monkeypatch.setenv("PULUMI_PYTHON_CMD", sys.executable)
        yield emulator
