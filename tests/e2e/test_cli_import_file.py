"""`pulumi-fal import-file`, then `pulumi import --file`, with nothing to do afterwards."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .cli import pulumi_fal
from .harness import SSH_KEY, Stack

EIGHT = "gpu_8x_h100_sxm5"


@pytest.fixture
def fleet(stack: Stack, emulator: EmulatorServer) -> set[str]:
    """Machines that no stack has: one of each kind, and one whose sector the API chose."""
    (stack.project / "key.pub").write_text(f"{SSH_KEY}\n")
    asked = [("gpu_1x_h100_sxm5", None), (EIGHT, "sector_2"), (EIGHT, None)]
    return {emulator.state.create(each, SSH_KEY, sector).id for each, sector in asked}


@pytest.mark.parametrize("pin", [False, True])
def test_a_fleet_goes_into_an_empty_stack_and_shows_no_change(
    stack: Stack, emulator: EmulatorServer, fleet: set[str], pin: bool
) -> None:
    """By the command and the lines of the program that import-file prints; refreshed or not."""
    pins = ["--pin-sectors"] if pin else []
    shown = pulumi_fal(stack, "import-file", "--ssh-key", "key.pub", *pins)
    assert "  pulumi import --file fal-import.json --generate-code=false\n" in shown
    (stack.project / "__main__.py").write_text(shown[shown.index("from pathlib") :])

    stack.run("import", "--file", "fal-import.json")
    assert stack.state_ids() == fleet
    stack.preview("--expect-no-changes")
    stack.refresh("--expect-no-changes")
    stack.preview("--expect-no-changes")
    stack.up("--expect-no-changes")
    assert emulator.state.alive() == fleet
    assert "nothing to import" in pulumi_fal(stack, "import-file", "--ssh-key", "key.pub")
    pulumi_fal(stack, "audit")


def test_what_is_imported_can_be_destroyed(
    stack: Stack, emulator: EmulatorServer, fleet: set[str]
) -> None:
    """Once the program has said, by an `up`, that they need no protection."""
    shown = pulumi_fal(stack, "import-file", "--ssh-key", "key.pub")
    (stack.project / "__main__.py").write_text(shown[shown.index("from pathlib") :])
    stack.run("import", "--file", "fal-import.json")
    stack.destroy(fails=True)
    assert emulator.state.alive() == fleet
    stack.up()
    stack.destroy()
    assert emulator.state.alive() == set()
