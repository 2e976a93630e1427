"""examples/quickstart: from the root of the repository, and as the template that it is."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT
from .harness import OTHER_SSH_KEY, SSH_KEY, Stack

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"


def test_the_root_runs_the_quickstart_with_nothing_activated(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Pulumi.yaml names the .venv, and PATH knows nothing of it."""
    # The stack's settings stay out of the root.
    shutil.copy(ROOT / "Pulumi.yaml", stack.folder)
    stack.init()
    stack.set_config(sshPublicKey=SSH_KEY)
    stack.project = ROOT
    stack.up("--config-file", str(stack.folder / "Pulumi.dev.yaml"))
    (made,) = emulator.state.list()
    assert stack.outputs() == {
        "id": made.id,
        "ip": made.ip,
        "status": "ready",
        "ssh": f"ssh ubuntu@{made.ip}",
    }


def test_a_project_made_from_the_template_runs_with_and_without_config(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """`pulumi new` makes it offline, with no placeholder and no settings of somebody else.

    Without config the public key in ~/.ssh is used, and an error says so where there is none.
    """
    stack.project = stack.folder / "copy"
    stack.project.mkdir()
    venv = f"--runtime-options=virtualenv={sys.prefix}"
    new = ("new", str(QUICKSTART), "--generate-only", "--offline", "--yes", "--name=copy")
    stack.run(*new, venv)
    stack.init()
    files = {path.name for path in stack.project.iterdir()}
    assert files == {"Pulumi.yaml", "__main__.py", "requirements.txt", "README.md"}
    assert "${" not in (stack.project / "Pulumi.yaml").read_text()
    assert "displayName" not in (stack.project / "Pulumi.yaml").read_text()

    failure = stack.up(fails=True)
    assert "No SSH public key was found in ~/.ssh" in failure.output
    assert emulator.state.creations == 0
    ssh = Path(stack.env["HOME"]) / ".ssh"
    ssh.mkdir()
    (ssh / "id_ed25519.pub").write_text(f"{OTHER_SSH_KEY}\n")
    stack.set_config(instanceType=EIGHT, sector="sector_2")
    stack.up()
    (made,) = emulator.state.machines.values()
    assert stack.outputs()["id"] == made.id
    assert made.requested.instance_type == EIGHT
    assert (made.requested.sector, made.requested.ssh_key) == ("sector_2", OTHER_SSH_KEY)
