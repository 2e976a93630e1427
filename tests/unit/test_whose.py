"""Which stack is asking, and whose a machine is: from what was read, and from what was not.

recovering.md says in words what the first table says of stacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.machines.journal import Entry, Phase
from pulumi_fal.machines.whose import (
    ABANDONED_SECONDS,
    Asking,
    Evidence,
    Same,
    Whose,
    is_gone,
    same,
    same_stack,
)
from pulumi_fal.stacks.cache import Origin
from pulumi_fal.stacks.state import Found, Stack, StackMachine

from ..fakes import DEV, HERE, ONE, URN, FakeStacks

X, Y = "an-id", "another-id"
FILES, THERE, CLOUD = HERE.backend, "file:///there", "https://api.pulumi.com"
PROD, ACME, ME = "organization/shop/prod", "acme/shop/dev", "me/shop/dev"
PROD_URN = URN.replace("dev", "prod")
YES, NO, UNKNOWN = Same.YES, Same.NO, Same.UNKNOWN


def stack(*ids: str, name: str = DEV, backend: str = FILES) -> Stack:
    return Stack(name, backend, (), dict.fromkeys(ids, "pulumi:providers:fal"))


def entry(provider: str = X, backend: str = FILES, urn: str = URN, **others: Any) -> Entry:
    origin = Origin(urn, provider, backend)
    return Entry(origin, "account", NewInstance(ONE, "f00d"), (), 0.0, **others)


Answer = Same | tuple[Same, Same]


def row(case: str, record: Entry, expected: Answer, *others: Stack, **rest: Any) -> Any:
    """`asks` is the stack that asks, and `unread` is the name of one that can't be read."""
    asks, unread = rest.get("asks", stack(Y)), rest.get("unread", "")
    return pytest.param(record, asks, others, unread, expected, id=case)


OLD_NAME, GONE_THERE, IN_CLOUD = entry(urn=PROD_URN), entry(X, THERE), entry(X, CLOUD)
NO_ID, NO_ID_THERE, NO_ID_CLOUD = entry(""), entry("", THERE), entry("", CLOUD)
NO_ID_OLD_NAME, NO_ID_CLOUD_OLD_NAME = (entry("", where, PROD_URN) for where in (FILES, CLOUD))
NO_ID_OLD_NAME_THERE = entry("", THERE, PROD_URN)
ADOPTED_THERE, ADOPTED_CLOUD = (
    replace(record, phase=Phase.ADOPTED) for record in (NO_ID_THERE, NO_ID_CLOUD)
)
OTHER, OF_THERE = stack(X, name=PROD), stack(X, backend=THERE)
OF_ACME, OF_ME = stack(X, name=ACME, backend=CLOUD), stack(Y, name=ME, backend=CLOUD)
NOWHERE = stack(Y, backend="")
ACME_PROD = stack(Y, name="acme/shop/prod", backend=CLOUD)
EMPTY_THERE, EMPTY_ACME = (replace(emptied, providers={}) for emptied in (OF_THERE, OF_ACME))
DEV_THERE = f"{DEV} in {THERE}"


@pytest.mark.parametrize("host", ["native", "python"])
@pytest.mark.parametrize(
    "record, asks, others, unread, expected",
    [
        # The ids meet, whatever the names, the backends and the spelling of their URLs.
        row("killed in the first up", entry(), YES, asks=stack(X)),
        row("killed in the first up, unread", entry(), YES, asks=stack(X), unread=DEV),
        row("renamed", OLD_NAME, YES, asks=stack(X)),
        row("renamed, unread", OLD_NAME, (YES, UNKNOWN), asks=stack(X), unread=DEV),
        row("migrated", GONE_THERE, YES, OF_THERE, asks=stack(X)),
        row("migrated and renamed", entry(X, THERE, PROD_URN), YES, asks=stack(X)),
        row("exported, imported into a copy", GONE_THERE, YES, OF_THERE, asks=stack(X)),
        row("two declared providers", entry(), YES, asks=stack(Y, X)),
        row("version of the native plugin changed", entry(), YES, asks=stack(X, Y)),
        # No stack that was read has the id.
        row("destroyed and up again", entry(), YES),
        row("destroyed and up again, unread", entry(), (UNKNOWN, YES), unread=DEV),
        row("destroyed and up again, another unread", entry(), UNKNOWN, unread=PROD),
        row("destroyed and up again in Cloud", IN_CLOUD, UNKNOWN, asks=OF_ME),
        row("destroyed, renamed and up again", OLD_NAME, NO),
        row("destroyed, two organizations", IN_CLOUD, UNKNOWN, EMPTY_ACME, asks=OF_ME),
        row("removed from another backend", GONE_THERE, UNKNOWN),
        # Another stack has it.
        row("another backend's", GONE_THERE, NO, OF_THERE),
        row("another backend's, and this one is new", GONE_THERE, NO, OF_THERE, asks=stack()),
        row("another backend's, unread", GONE_THERE, UNKNOWN, unread=DEV_THERE),
        row("another organization's", IN_CLOUD, NO, OF_ACME, asks=OF_ME),
        row("another organization's, unread", IN_CLOUD, UNKNOWN, asks=OF_ME, unread=ACME),
        row("another's, own unread", IN_CLOUD, (NO, UNKNOWN), OF_ACME, asks=OF_ME, unread=ME),
        row("renamed, and the name is another's now", entry(), NO, OTHER),
        row("another stack of the project", OLD_NAME, NO, OTHER),
        row("another stack of the project, unread", OLD_NAME, NO, unread=PROD),
        # The record has no id: names and backend decide, where they can.
        row("no id", NO_ID, YES),
        row("no id, unread", NO_ID, YES, unread=DEV),
        row("no id, in Cloud", NO_ID_CLOUD, UNKNOWN, asks=OF_ME),
        row("no id, two organizations", NO_ID_CLOUD, UNKNOWN, OF_ACME, asks=OF_ME),
        row("no id, an organization unread", NO_ID_CLOUD, UNKNOWN, asks=OF_ME, unread=ACME),
        row("no id, migrated", NO_ID_THERE, YES, stack(Y, backend=THERE)),
        row("no id, another backend's", NO_ID_THERE, NO, OF_THERE),
        row("no id, another backend's, unread", NO_ID_THERE, UNKNOWN, unread=DEV_THERE),
        row("no id, another backend's, own unread", NO_ID_THERE, UNKNOWN, OF_THERE, unread=DEV),
        row("no id, destroyed in another backend", NO_ID_THERE, UNKNOWN, EMPTY_THERE),
        row("no id, no backend", entry("", ""), UNKNOWN),
        row("no id, renamed or removed", NO_ID_OLD_NAME, UNKNOWN),
        row("no id, another stack of the project", NO_ID_OLD_NAME, NO, OTHER),
        row("renamed, nothing is known", OLD_NAME, (NO, UNKNOWN), asks=NOWHERE, unread=DEV),
        row("no id, another of Cloud", NO_ID_CLOUD_OLD_NAME, NO, ACME_PROD, asks=OF_ACME),
        row("no id, renamed in Cloud", NO_ID_CLOUD_OLD_NAME, UNKNOWN, ACME_PROD, asks=OF_ME),
        row("no id, no backend, renamed", entry("", "", PROD_URN), UNKNOWN),
        row("no id, another name and backend", NO_ID_OLD_NAME_THERE, NO),
        row("no id, renamed, other URL", NO_ID_OLD_NAME_THERE, UNKNOWN, stack(Y, backend=THERE)),
        # A person has said for which resource it is, but not for that of another living stack.
        row("adopted, two organizations", ADOPTED_CLOUD, YES, OF_ACME, asks=OF_ME),
        row("adopted in another backend", ADOPTED_THERE, NO, OF_THERE),
    ],
)
def test_same_stack(
    record: Entry, asks: Stack, others: Sequence[Stack], unread: str, expected: Answer, host: str
) -> None:
    """No second machine is made, and no other stack's is taken.

    Where the hosts differ, the native one comes first: it is told the id of the stack's provider.
    """
    is_native = host == "native"
    own = None if unread == asks.name else asks
    told = next(iter(asks.providers), "") if is_native else ""
    asking = Asking(Origin(URN, told, asks.backend), own)
    found = Found((*others, *([own] if own else [])), {unread: "no access"} if unread else {})
    answers = expected if isinstance(expected, tuple) else (expected, expected)
    assert same_stack(record, asking, found) is answers[0 if is_native else 1]


class Backends(FakeStacks):
    """Stacks of several backends, each with whether it can be read. The first one is the own."""

    def __init__(self, *held: tuple[Stack, bool]) -> None:
        super().__init__()
        self._held = held
        self.backend = held[0][0].backend

    def _in(self, backend: str, is_meant: Callable[[str], bool]) -> Found:
        meant = [s for s in self._held if s[0].backend == backend and is_meant(s[0].name)]
        return Found(
            tuple(stack for stack, is_read in meant if is_read),
            {f"{stack.name} in {backend}": "no access" for stack, is_read in meant if not is_read},
        )


PLACES = [(DEV, FILES), (PROD, FILES), (DEV, THERE), (ACME, CLOUD), (ME, CLOUD)]
TRUTH = [True, False]


def urn_at(place: tuple[str, str]) -> str:
    return URN if place[0].endswith("dev") else PROD_URN


@pytest.mark.parametrize("recorded", PLACES)
@pytest.mark.parametrize("is_own", TRUTH)
def test_takes_no_others(recorded: tuple[str, str], is_own: bool) -> None:
    """It does not matter where the two stacks are by now, and what can be read.

    The stack that made the record has its id, and another one does not.
    """
    record = entry(X, recorded[1], urn_at(recorded))
    for place, other, *can_read, is_native in product(PLACES, PLACES, TRUTH, TRUTH, TRUTH):
        if place == other:
            continue
        ids = (X, Y) if is_own else (Y, X)
        own_stack, another = (
            stack(id_, name=name, backend=backend)
            for id_, (name, backend) in zip(ids, (place, other), strict=True)
        )
        stacks = Backends((own_stack, can_read[0]), (another, can_read[1]))
        origin = Origin(urn_at(place), ids[0] if is_native else "", stacks.backend)
        own = stacks.own(origin)
        said, _ = same(record, Asking(origin, own), stacks)
        case = f"{place} {other} {can_read} {is_native}: {said}"
        is_here = (origin.urn, origin.backend) == (record.origin.urn, record.origin.backend)
        is_known = is_native or own is not None
        if is_own:
            may_be_here = origin.urn == record.origin.urn or origin.backend == recorded[1]
            assert said is YES if is_known else said is not NO or not may_be_here, case
        elif other[1] == place[1] or other == recorded:
            assert said is not YES or (is_here and not is_known), case
            assert said is NO or own is None or not can_read[1], case
        else:
            assert said is not YES or is_here, case


# Whose a machine is.

MADE = Instance("made", ONE)
HELD = Stack(DEV, FILES, (StackMachine("made", URN),))
HELD_THERE = replace(HELD, backend=THERE)
NOW = 1_700_000_000.0


def record(age: float = 0.0, **others: Any) -> Entry:
    """A create that has made the machine, so many seconds ago."""
    values = {"phase": Phase.CREATED, "instance_id": "made", "file": "a-b-c.json", **others}
    return replace(entry(), started=NOW - age, **values)


OLD = record(ABANDONED_SECONDS + 1)
UNANSWERED = record(phase=Phase.REQUESTED, instance_id=None)
ADOPTED_SINCE = record(phase=Phase.ADOPTED, file="0-0-0.json")
UNREAD = {"stack organization/shop/test": "no access"}


@pytest.mark.parametrize(
    "evidence, whose, claimed",
    [
        ({}, Whose.FORGOTTEN, ""),
        ({"stacks": [HELD]}, Whose.STACK, DEV),
        ({"stacks": [HELD], "entries": [OLD], "unread": UNREAD}, Whose.STACK, DEV),
        ({"elsewhere": [HELD_THERE]}, Whose.STACK, f"{DEV} in {THERE}"),
        ({"entries": [record()]}, Whose.PENDING, DEV),
        ({"entries": [record(phase=Phase.REPORTED)]}, Whose.PENDING, DEV),
        ({"entries": [record(phase=Phase.ADOPTED)]}, Whose.PENDING, DEV),
        ({"entries": [record(ABANDONED_SECONDS)], "unread": UNREAD}, Whose.PENDING, DEV),
        ({"entries": [OLD], "in_progress": {OLD.file}, "gone": {OLD.file}}, Whose.PENDING, DEV),
        ({"entries": [OLD]}, Whose.ABANDONED, DEV),
        ({"entries": [record()], "gone": {OLD.file}}, Whose.ABANDONED, DEV),
        ({"entries": [ADOPTED_SINCE, OLD]}, Whose.PENDING, DEV),
        ({"entries": [OLD], "unread": UNREAD}, Whose.UNKNOWN, DEV),
        ({"entries": [OLD], "unread_elsewhere": {OLD.file: UNREAD}}, Whose.UNKNOWN, DEV),
        ({"entries": [UNANSWERED]}, Whose.UNKNOWN, DEV),
        ({"entries": [replace(UNANSWERED, phase=Phase.LATE)]}, Whose.UNKNOWN, DEV),
        ({"entries": [replace(UNANSWERED, before=("made",))]}, Whose.FORGOTTEN, ""),
        ({"entries": [record(instance_id="other")]}, Whose.FORGOTTEN, ""),
        ({"unread": UNREAD}, Whose.UNKNOWN, ""),
    ],
)
def test_whose(evidence: dict[str, Any], whose: Whose, claimed: str) -> None:
    """No stack or record that has a machine, or that may have it, is overlooked."""
    (row,) = Evidence(now=NOW, **evidence).whose([MADE])
    assert (row.whose, row.claim.stack if row.claim else "") == (whose, claimed)


@pytest.mark.parametrize(
    "left, found, unread, expected",
    [
        (entry(), [], "", True),
        (entry(), [OTHER], "", False),
        (entry(), [stack(Y)], "", False),
        (NO_ID, [stack(Y)], "", False),
        (NO_ID, [stack(Y, name=PROD)], "", True),
        (entry(), [], PROD, False),
        (entry(X, ""), [], "", False),
    ],
)
def test_gone(left: Entry, found: list[Stack], unread: str, expected: bool) -> None:
    """A stack that was renamed, that is empty, or that can't be read is not gone."""
    reasons = {unread: "no access"} if unread else {}
    assert is_gone(left, Found(tuple(found), reasons)) is expected
