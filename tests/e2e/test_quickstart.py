"""examples/quickstart: from the root, and as the template that it is."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import OTHER_SSH_KEY, SSH_KEY, Stack

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"


@pytest.fixture
def copy(stack: Stack) -> Stack:
    """A stack whose project `pulumi new` made from the template, in an empty folder, offline."""
    stack.project = stack.folder / "copy"
    stack.project.mkdir()
    venv = f"--runtime-options=virtualenv={sys.prefix}"
    new = ("new", str(QUICKSTART), "--generate-only", "--offline", "--yes", "--name=copy")
    stack.run(*new, venv)
    stack.run("stack", "init")
    return stack


def test_the_root_runs_the_quickstart_with_nothing_activated(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """With the .venv that Pulumi.yaml names, and a PATH that knows nothing of it."""
    # The stack's settings stay out of the root: init puts them beside the Pulumi.yaml it is run on.
    shutil.copy(ROOT / "Pulumi.yaml", stack.folder)
    stack.run("stack", "init")
    stack.config("sshPublicKey", SSH_KEY)
    settings = ("--config-file", str(stack.folder / "Pulumi.dev.yaml"))
    stack.project = ROOT
    stack.up(*settings)
    (made,) = emulator.state.list()
    assert stack.outputs() == {
        "id": made.id,
        "ip": made.ip,
        "status": "ready",
        "ssh": f"ssh ubuntu@{made.ip}",
    }
    stack.destroy(*settings)
    assert emulator.state.alive() == set()


def test_a_project_made_from_the_template_runs(copy: Stack, emulator: EmulatorServer) -> None:
    """And its config decides which machine is rented."""
    copy.config("sshPublicKey", SSH_KEY)
    copy.config("instanceType", "gpu_8x_h100_sxm5")
    copy.config("sector", "sector_2")
    copy.up()
    (made,) = emulator.state.machines.values()
    assert copy.outputs()["id"] == made.id
    assert (made.instance_type, made.requested_sector, made.ssh_key) == (
        "gpu_8x_h100_sxm5",
        "sector_2",
        SSH_KEY,
    )


def test_the_template_has_no_leftovers(copy: Stack) -> None:
    """No placeholder, no `template:` section, no stack's settings of somebody else."""
    files = {path.name for path in copy.project.iterdir()}
    assert files == {
        "Pulumi.yaml", "Pulumi.dev.yaml", "__main__.py", "requirements.txt", "README.md"
    }  # fmt: skip
    assert "${" not in (copy.project / "Pulumi.yaml").read_text()
    assert "displayName" not in (copy.project / "Pulumi.yaml").read_text()


def test_without_config_the_machines_owner_may_log_in(
    copy: Stack, emulator: EmulatorServer
) -> None:
    """The public key in ~/.ssh, and a clear word where there is none."""
    failure = copy.up(fails=True)
    assert "No SSH public key was found in ~/.ssh" in failure.output
    assert emulator.state.creations == 0
    ssh = Path(copy.env["HOME"]) / ".ssh"
    ssh.mkdir()
    (ssh / "id_ed25519.pub").write_text(f"{OTHER_SSH_KEY}\n")
    copy.up()
    (made,) = emulator.state.machines.values()
    assert (made.instance_type, made.ssh_key) == ("gpu_1x_h100_sxm5", OTHER_SSH_KEY)
