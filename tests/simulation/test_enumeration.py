"""No law is broken in any order of two commands, whatever one thing happens meanwhile.

Each mend of a lost or doubled machine is needed: without it, the quick enumeration finds one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, Protocol
from unittest import mock

import pytest

from pulumi_fal.cli.common import Reader
from pulumi_fal.machines import creates, earlier
from pulumi_fal.machines.account import Account, Records
from pulumi_fal.machines.creates import Creates
from pulumi_fal.machines.journal import Entry, Journal
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import Call
from pulumi_fal.resource.inputs import UNFINISHED
from pulumi_fal.stacks.state import Found

from .. import tally
from .enumeration import Case, cases, quick_cases, search

PARTS = 48
"""So many tests share the cases, so that several processes can run them."""
SHARE = float(os.environ.get("CHAOS_SHARE", "0.5"))
"""How many of the pairs of commands a run searches; CHAOS_SEED draws others every time. All of them
take 25 minutes of two processors."""


class Hold(Protocol):
    """The fixture of this name."""

    def __call__(self, some: list[Case]) -> None: ...


@pytest.fixture
def hold(record_property: tally.Record) -> Hold:
    """Run all schedules of some cases. If laws are broken, the shortest schedule is the error."""

    def hold(some: list[Case]) -> None:
        found = search(some)
        part = "simulation: two commands"
        tally.record(record_property, part, cases=found.count, broken=found.broken)
        if found.shortest is not None:
            pytest.fail(
                f"{found.broken} of {found.count} schedules break a law. The shortest one:\n"
                f"{found.shortest}",
                pytrace=False,
            )

    return hold


@pytest.mark.timeout(600)
def test_every_law_holds_for_each_command_and_in_some_pairs(hold: Hold) -> None:
    hold(list(quick_cases()))


@pytest.mark.chaos(
    "simulation/test_enumeration.py::test_every_law_holds_for_each_command_and_in_some_pairs"
)
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_law_holds_in_every_order_of_two_commands(hold: Hold, part: int) -> None:
    hold(list(islice(drawn(), part, None, PARTS)))


def drawn() -> Iterator[Case]:
    """Yield each command by itself, and some of the pairs."""
    draw = random.Random(tally.SEED)
    return (case for case in cases() if draw.random() < SHARE or len(case.commands) == 1)


Mutant = Callable[[], AbstractContextManager[Any]]


def forget_what_the_create_before_made() -> AbstractContextManager[Any]:
    """An error hook has the engine call Create again."""
    return mock.patch.object(Records, "made", return_value=None)


def read_the_wall_clock_once() -> AbstractContextManager[Any]:
    """The computer sleeps between two attempts of a create with an idempotency key."""
    return mock.patch.object(Creates, "_may_send", return_value=True)


def change_a_record_without_its_lock() -> AbstractContextManager[Any]:
    """A command drops a record that another process has replaced since it was read."""

    def change(self: Journal, read: Entry, new: Entry | None) -> bool:
        if new is not None:
            self.write(new)
        if new is None or new.origin != read.origin:
            self.drop(read)
        return True

    return mock.patch.object(Journal, "exchange", change)


def look_into_no_other_stack() -> AbstractContextManager[Any]:
    """`audit` is asked whose the machine of another stack is."""
    return mock.patch.object(Reader, "_read_stacks", return_value=Found())


def drop_the_record_of_a_create_that_may_end_late() -> AbstractContextManager[Any]:
    """The API makes a machine after a gateway has answered for it."""
    return mock.patch.object(creates, "as_late", return_value=None)


def say_nothing_of_a_late_machine() -> AbstractContextManager[Any]:
    """The API makes a machine after another create has followed, and nobody looks for it."""
    return mock.patch.object(earlier, "look_for_late", return_value=())


def delete_what_is_there_again() -> AbstractContextManager[Any]:
    """An `up` replaces a machine that a wait has found to be gone, and the API shows it again."""
    delete = operations.delete

    def plainly(account: Account, call: Call, id_: str, props: Mapping[str, Any]) -> None:
        delete(account, call, id_, {**props, UNFINISHED: True})

    return mock.patch.object(operations, "delete", plainly)


LOST = "neither in state nor in the journal"
UNTOLD = "is late, and a command of stack one does not say so"


def slow(mutant: Mutant, law: str) -> Any:
    """A row that takes thousands of schedules."""
    return pytest.param(mutant, law, "", marks=pytest.mark.chaos)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutant, law, situation",
    [
        (forget_what_the_create_before_made, "was told to the engine, which forgot it", ""),
        (read_the_wall_clock_once, "was made twice", ""),
        (delete_what_is_there_again, "which is there again", "found gone"),
        slow(change_a_record_without_its_lock, "was made twice"),
        slow(look_into_no_other_stack, "is called forgotten"),
        slow(drop_the_record_of_a_create_that_may_end_late, LOST),
        slow(say_nothing_of_a_late_machine, UNTOLD),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mend_that_is_taken_out_is_missed(mutant: Mutant, law: str, situation: str) -> None:
    with mutant():
        cases = (case for case in quick_cases() if case.situation.name.startswith(situation))
        found = search(cases, until=law)
    assert found.shortest is not None
    assert law in found.shortest.problem
    print(f"{mutant.__name__}: found by schedule {found.count}\n{found.shortest}")
