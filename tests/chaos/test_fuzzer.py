"""A fuzzer reads the APIs' documents, and calls the emulator in ways that nobody thought of.

`CHAOS_SEED=N make chaos` calls it again as the run that printed this seed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..contract.documents import APIS, FILES
from ..tally import SEED

FUZZER = Path(sys.executable).with_name("schemathesis")
EXAMPLES = int(os.environ.get("CHAOS_EXAMPLES", "100"))
"""How many requests of each kind the fuzzer makes up, at most."""
CONFIG = """\
[generation]
database = "none"

# The text of a cursor is the API's own, so the document can't say which ones are right.
[[operations]]
include-name = "GET /compute/instances"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400]
"""


@pytest.mark.parametrize("api", APIS)
def test_fuzzer(api: str, tmp_path: Path) -> None:
    """No answer is a 5xx, nothing right is refused, and nothing wrong is taken."""
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    with EmulatorServer(api=api) as emulator:
        # The fuzzer takes an answer that is kept for its idempotency key for a machine that is new.
        emulator.state.key_seconds = 0
        emulator.state.page_size = 5
        arguments = [
            *("run", str(FILES[api]), f"--url={emulator.endpoint}"),
            f"--header=Authorization: Key {emulator.env['FAL_ADMIN_API_KEY']}",
            *(f"--max-examples={EXAMPLES}", f"--seed={SEED}", "--continue-on-failure"),
            # FastAPI's Allow header has the methods of one route, and nobody reads it.
            *("--checks=all", "--exclude-checks=allow_header_conformance"),
            *("--no-color", "--warnings=off"),
        ]
        run = subprocess.run(
            [FUZZER, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        calls = emulator.state.calls
    assert run.returncode == 0, f"{run.stdout}{run.stderr}\nCHAOS_SEED={SEED}"
    assert min(calls.values()) >= EXAMPLES / 4, f"{calls}\n{run.stdout}"
