"""`pulumi-fal audit` over real stacks."""

from __future__ import annotations

import json

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .cli import pulumi_fal
from .harness import SSH_KEY, Stack

ONE = "gpu_1x_h100_sxm5"


@pytest.fixture
def stacks(stack: Stack, emulator: EmulatorServer) -> list[Stack]:
    """Three stacks of one backend, each with a machine."""
    stacks = [stack]
    for name in ("prod", "test"):
        other = Stack(stack.folder, emulator.env, name=name)
        other.run("stack", "init")
        stacks.append(other)
    for each in stacks:
        each.up()
    return stacks


def test_it_finds_exactly_the_machines_that_were_left_on_purpose(
    stacks: list[Stack], emulator: EmulatorServer
) -> None:
    """Of three stacks, whose own machines it leaves alone; and what is gone behind their backs."""
    dev, prod, test = stacks
    aged = json.loads(pulumi_fal(dev, "audit", "--max-age", "1h", "--json"))
    assert all(0 <= machine["age_seconds"] < 600 for machine in aged["machines"])
    left = {emulator.state.create(ONE, SSH_KEY, None).id for _ in range(2)}
    # Left by a person who thought that state was all there is.
    dropped = test.state_ids()
    test.run("state", "delete", test.resources()[0]["urn"], "--yes")
    (gone,) = prod.state_ids()
    emulator.state.kill(gone)

    report = json.loads(pulumi_fal(dev, "audit", "--json", code=1))
    whose = {each["id"]: each["whose"] for each in report["machines"]}
    assert whose == {
        **dict.fromkeys(left | dropped, "forgotten"),
        **dict.fromkeys(dev.state_ids(), "stack"),
    }
    assert [each["id"] for each in report["gone"]] == [gone]
    assert report["stacks"] == [f"organization/test/{name}" for name in ("dev", "prod", "test")]
    assert report["unreadable"] == {}


def test_a_stack_that_cannot_be_read_leaves_its_machine_unknown(
    stacks: list[Stack], emulator: EmulatorServer
) -> None:
    """It is named; those in the other two are known, and none is called forgotten."""
    dev, prod, test = stacks
    left = emulator.state.create(ONE, SSH_KEY, None).id
    known, unknown = dev.state_ids() | prod.state_ids(), test.state_ids() | {left}
    file = test.folder / ".pulumi" / "stacks" / "test" / "test.json"
    file.write_text(file.read_text()[:-100])

    # A file backend has no list then.
    assert pulumi_fal(dev, "audit", code=2) == ""
    names = [f"organization/test/{each.name}" for each in stacks]
    named = [option for name in names for option in ("--stack", name)]
    report = json.loads(pulumi_fal(dev, "audit", "--json", *named, code=2))
    whose = {each["id"]: each["whose"] for each in report["machines"]}
    assert whose == {**dict.fromkeys(known, "stack"), **dict.fromkeys(unknown, "unknown")}
    assert list(report["unreadable"]) == [f"stack {names[2]}"]
    assert f"Unreadable: stack {names[2]}: " in pulumi_fal(dev, "audit", *named, code=2)
    # Without that one there is an answer for the machine that nobody has.
    report = json.loads(pulumi_fal(dev, "audit", "--json", *named[:4], code=1))
    assert [each["id"] for each in report["machines"] if each["whose"] == "forgotten"] == [left]
