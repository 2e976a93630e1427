"""Each mend of a lost or doubled machine is needed: without it, the quick enumeration finds one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from pulumi_fal.cli.evidence import Reader
from pulumi_fal.machines import creates
from pulumi_fal.machines.journal import Entry, Journal
from pulumi_fal.machines.records import Records
from pulumi_fal.machines.review import Late
from pulumi_fal.machines.sender import Sender
from pulumi_fal.stacks.state import Found

from .enumeration import quick_cases, search

Mutant = Callable[[], AbstractContextManager[Any]]


def forget_what_the_create_before_made() -> AbstractContextManager[Any]:
    """An error hook has the engine call Create again."""
    return mock.patch.object(Records, "made", return_value=None)


def read_the_wall_clock_once() -> AbstractContextManager[Any]:
    """The computer sleeps between two attempts of a create with an idempotency key."""
    return mock.patch.object(Sender, "may_repeat", return_value=True)


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
    return mock.patch.object(Late, "look", return_value=())


LOST = "neither in state nor in the journal"
UNTOLD = "is late, and a command of stack one does not say so"


def slow(mutant: Mutant, law: str) -> Any:
    """A row that takes thousands of schedules."""
    return pytest.param(mutant, law, marks=pytest.mark.chaos)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutant, law",
    [
        (forget_what_the_create_before_made, "was told to the engine, which forgot it"),
        (read_the_wall_clock_once, "was made twice"),
        slow(change_a_record_without_its_lock, "was made twice"),
        slow(look_into_no_other_stack, "is called forgotten"),
        slow(drop_the_record_of_a_create_that_may_end_late, LOST),
        slow(say_nothing_of_a_late_machine, UNTOLD),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mend_that_is_taken_out_is_missed(mutant: Mutant, law: str) -> None:
    with mutant():
        found = search(quick_cases(), until=law)
    assert found.shortest is not None
    assert law in found.shortest.problem
    print(f"{mutant.__name__}: found by schedule {found.count}\n{found.shortest}")
