"""Record what the installed version of pulumi_fal writes into state, for test_recorded_states.py.

    python -m tests.e2e.record_state

writes recorded_state.json: what `pulumi stack export` prints for `program`, with a fixed time, and
placeholders for the emulator's address and the account. To record another version, put its
`provider` folder first on PYTHONPATH. So that this works with any version, nothing else of the
tests is imported here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from math import inf
from pathlib import Path
from typing import Any

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

RECORDED = Path(__file__).with_name("recorded_state.json")
ONE, EIGHT = "gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"
SSH_KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} me@laptop"
ENDPOINT, ACCOUNT = "ENDPOINT", "ACCOUNT"
"""What stands in a recorded state for the address of the API and the account of the key."""
TIME = "2026-01-01T00:00:00Z"
PROGRAM = """\
import pulumi
from pulumi import ResourceOptions
from pulumi_fal import ComputeInstance

ssh_key = {ssh_key!r}
secret = ResourceOptions(additional_secret_outputs=["ip"])
timeouts = ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create="{create_seconds}s"))
imported = ResourceOptions(import_={imported!r})
ComputeInstance("ready", instance_type={eight!r}, sector="sector_2", ssh_key=ssh_key, opts=secret)
ComputeInstance("unfinished", instance_type={one!r}, ssh_key=ssh_key, opts=timeouts)
ComputeInstance("imported", instance_type={eight!r}, ssh_key=ssh_key, opts=imported)
ComputeInstance("unawaited", instance_type={eight!r}, ssh_key=ssh_key, wait=False)
"""


def program(imported: str, create_seconds: int = 60) -> str:
    """A program with a machine of each kind; `imported` is the id of the one to import."""
    return PROGRAM.format(
        ssh_key=SSH_KEY, imported=imported, create_seconds=create_seconds, one=ONE, eight=EIGHT
    )


def record(folder: Path) -> dict[str, Any]:
    """The state of a stack with a machine of each kind, right after its `up`."""
    with EmulatorServer(provisioning=inf) as emulator:
        by_hand = emulator.state.create(NewInstance(EIGHT, SSH_KEY))
        emulator.state.machines[by_hand.id].provisioning = 0
        (folder / "Pulumi.yaml").write_text("name: test\nruntime: python\n")
        (folder / "__main__.py").write_text(program(by_hand.id, create_seconds=2))
        env = {
            **emulator.env,
            "PATH": os.defpath,
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(folder),
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "passphrase",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
        }

        def start(*args: str) -> subprocess.Popen[str]:
            command = [str(Path(sys.executable).with_name("pulumi")), *args, "--stack=dev"]
            return subprocess.Popen(command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE)

        start("stack", "init").communicate()
        up = start("up", "--yes", "--skip-preview", "--non-interactive")
        while up.poll() is None:
            for made in list(emulator.state.machines.values()):
                if made.requested.sector:
                    made.provisioning = 0
        assert up.returncode != 0  # one machine is never ready
        text, _ = start("stack", "export").communicate()
    text = text.replace(emulator.url, ENDPOINT)
    text = re.sub(r'("account": )"\w+"', rf'\1"{ACCOUNT}"', text)
    text = re.sub(r'("(?:created|modified|time)": )".+?"', rf'\1"{TIME}"', text)
    state: dict[str, Any] = json.loads(text)
    for resource in state["deployment"]["resources"]:
        for name in ("sourcePosition", "stackTrace"):  # paths of this computer
            resource.pop(name, None)
    return state


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        state = record(Path(folder))
    RECORDED.write_text(json.dumps(state, indent=2) + "\n")
