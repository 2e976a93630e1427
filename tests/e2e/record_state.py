"""Record what the installed release of pulumi_fal writes into state, for test_recorded_states.py.

    python -m tests.e2e.record_state NAME

writes recorded/NAME.json: what `pulumi stack export` prints for `program`, with a fixed time, and
placeholders for the emulator's address and the account. To record another release, put its
`provider` folder first on PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from math import inf
from pathlib import Path
from typing import Any

from pulumi_fal.emulator.server import EmulatorServer

from .harness import SSH_KEY, Stack, machine

RECORDED = Path(__file__).with_name("recorded")
ONE, EIGHT = "gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"
ENDPOINT, ACCOUNT = "ENDPOINT", "ACCOUNT"
"""What stands in a recorded state for the address of the API and the account of the key."""
SECRET_IP = "additional_secret_outputs=['ip']"
TIME = "2026-01-01T00:00:00Z"


def program(imported: str, create_seconds: int = 60) -> str:
    """A program with a machine of each kind; `imported` is the id of the one to import."""
    timeouts = f"custom_timeouts=pulumi.CustomTimeouts(create='{create_seconds}s')"
    return (
        machine("ready", opts=SECRET_IP, instance_type=EIGHT, sector="sector_2")
        + machine("unfinished", opts=timeouts)
        + machine("imported", instance_type=EIGHT, opts=f"import_={imported!r}")
        + machine("unawaited", instance_type=EIGHT, wait=False)
    )


def record(folder: Path) -> dict[str, Any]:
    """The state of a stack with a machine of each kind, right after its `up`."""
    (folder / "Pulumi.yaml").write_text("name: test\nruntime: python\n")
    with EmulatorServer(provisioning=inf) as emulator:
        by_hand = emulator.state.create(EIGHT, SSH_KEY, None)
        emulator.state.machines[by_hand.id].provisioning = 0
        stack = Stack(folder, emulator.env)
        stack.env["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
        stack.run("stack", "init")
        stack.write(program(by_hand.id, create_seconds=2))
        run = stack.start("up")
        while run.process.poll() is None:
            for made in list(emulator.state.machines.values()):
                if made.requested_sector:
                    made.provisioning = 0
        assert run.wait().exit_code != 0  # one machine is never ready
        text = stack.run("stack", "export").output
    text = text.replace(emulator.url, ENDPOINT)
    text = re.sub(r'("account": )"\w+"', rf'\1"{ACCOUNT}"', text)
    text = re.sub(r'("(?:created|modified|time)": )".+?"', rf'\1"{TIME}"', text)
    state: dict[str, Any] = json.loads(text)
    for resource in state["deployment"]["resources"]:
        for name in ("sourcePosition", "stackTrace"):  # paths of this machine
            resource.pop(name, None)
    return state


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        state = record(Path(folder))
    path = RECORDED / f"{sys.argv[1]}.json"
    path.write_text(json.dumps(state, indent=2) + "\n")
