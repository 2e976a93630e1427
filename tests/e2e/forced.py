"""Replacements that nothing calls for but a user."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT, ONE
from .harness import SSH_KEY, Stack, machine, wait_until
from .recovery import entries, finish, journal, unfinished, urn

KINDS = ("fresh", "known", "unfinished")
"""A machine right after its `up`, whose record is still there; one without a record; and one that
is in state as partial."""


def program(ways: Sequence[str], trigger: str = "one", ssh_key: str = SSH_KEY) -> str:
    """A machine of each kind for each way to replace it, and `other`, which has the given key.

    The machines of the way "trigger" have a replacement trigger, and those of the way "follow" are
    replaced together with `other`.
    """
    options = {
        "trigger": f"replacement_trigger={trigger!r}",
        "follow": "replace_with=[other]",
    }
    lines = [machine("other", ssh_key=ssh_key)]
    for way in ways:
        for kind in KINDS:
            type_ = EIGHT if kind == "unfinished" else ONE
            name, opts = f"{way}_{kind}", options.get(way, "")
            lines.append(machine(name, opts=opts, instance_type=type_))
    return "".join(lines)


def make_each_kind(stack: Stack, emulator: EmulatorServer, ways: Sequence[str]) -> None:
    """Run `up` so that each machine is of its kind afterwards; all of them are ready then."""
    state, count = emulator.state, len(ways) * len(KINDS) + 1
    state.provisioning = inf
    run = stack.start("up", "--parallel", str(count))

    def only_unfinished_left() -> bool:
        for made in list(state.machines.values()):
            if made.instance_type == ONE:
                made.provisioning = 0
        return run.process.poll() is not None or (
            state.creations == count and len(stack.state_ids()) == count - len(ways)
        )

    wait_until(only_unfinished_left)
    run.interrupt()
    assert run.wait().exit_code != 0
    assert {resource["urn"] for resource in unfinished(stack)} == {
        urn(stack, f"{way}_unfinished") for way in ways
    }
    for entry in entries(stack):
        if entry.origin.urn.endswith("_known"):
            journal(stack).drop(entry)
    finish(state)
    assert set(ids(stack).values()) == state.alive()


def by_flag(stack: Stack, flag: str, way: str) -> list[str]:
    """The flags of an `up` that replaces the machines of that way."""
    return [word for kind in KINDS for word in (flag, urn(stack, f"{way}_{kind}"))]


def by_taint(stack: Stack, way: str) -> None:
    """`pulumi state taint` of the machines of that way."""
    stack.run("state", "taint", *(urn(stack, f"{way}_{kind}") for kind in KINDS), "--yes")


def ids(stack: Stack) -> dict[str, str]:
    """The ids of the machines in state by name; each name just once."""
    found = stack.resources()
    named = {resource["urn"].rpartition("::")[2]: str(resource.get("id", "")) for resource in found}
    assert len(named) == len(found)
    return named
