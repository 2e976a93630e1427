"""What docs/recovering.md says of other accounts, renamed stacks, late machines and outages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import OTHER_SSH_KEY, Stack, machine, wait_until
from .recovery import (
    PATIENCE,
    as_documented,
    entries,
    finish,
    journal,
    one_machine,
    pending,
    says,
    urn,
)

ONE = "gpu_1x_h100_sxm5"
OTHER_KEY = "another-key"


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    """The API. It takes any key, and each key has an account of its own."""
    with EmulatorServer(provisioning=0.2, deletion=0.1, api_key=None, say=print) as server:
        yield server


def test_another_accounts_key_keeps_the_machine_in_state(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Until it is known to be a key of the same account; then state has the new account."""
    stack.up()
    (before,) = [each["outputs"]["account"] for each in stack.resources()]
    key, stack.env["FAL_ADMIN_API_KEY"] = stack.env["FAL_ADMIN_API_KEY"], OTHER_KEY
    for failed in (stack.refresh(fails=True), stack.destroy(fails=True)):
        as_documented(failed, "Another account's key")
        says(failed, f"another account ({before})")
    one_machine(stack, emulator)
    emulator.state.same_account(key, OTHER_KEY)
    stack.refresh()
    one_machine(stack, emulator)
    (after,) = [each["outputs"]["account"] for each in stack.resources()]
    assert after != before


def test_a_create_of_a_renamed_stack_is_adopted_under_the_new_name(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The new name's create stops first, and names what the old one may have made."""
    stack.env |= PATIENCE
    emulator.faults.add("create", "reset_after")
    stack.up(fails=True)
    old = urn(stack)
    stack.run("stack", "rename", "prod")
    stack.name = "prod"
    stopped = stack.up(fails=True)
    as_documented(stopped, "A renamed stack")
    (made,) = emulator.state.alive()
    says(stopped, made)
    pending(stack, "adopt", old, made, "--for", urn(stack))
    stack.up()
    assert one_machine(stack, emulator) == made
    stack.up("--expect-no-changes")
    assert entries(stack) == []


def test_a_machine_that_appears_late_stops_nothing(stack: Stack, emulator: EmulatorServer) -> None:
    """It is named, and a new one is made."""
    stack.env |= PATIENCE
    emulator.faults.add("create", "502")
    stack.up(fails=True)
    (entry,) = entries(stack)
    journal(stack).write(replace(entry, started=entry.started - 3600))
    other = emulator.state.create(ONE, OTHER_SSH_KEY)
    up = stack.up()
    as_documented(up, "A machine appeared late")
    says(up, other.id)
    assert stack.state_ids() == emulator.state.alive() - {other.id}


def test_an_outage_that_outlasts_the_wait_is_in_its_error(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """With the API's last word; and the next `up` goes on."""
    emulator.state.provisioning = inf
    stack.write(machine(opts="custom_timeouts=pulumi.CustomTimeouts(create='3s', update='30s')"))
    run = stack.start("up")
    wait_until(lambda: emulator.state.calls["list"] >= 3)
    emulator.faults.add("list", "503", inf)
    failed = run.wait()
    as_documented(failed, "The API gave no usable answer")
    says(failed, "The wait goes on.")
    emulator.faults.clear()
    finish(emulator.state)
    stack.up()
    one_machine(stack, emulator)
