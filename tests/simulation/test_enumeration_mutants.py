"""Each mend of a lost or doubled machine is needed: without it, the quick enumeration finds one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from pulumi_fal.machines import creates
from pulumi_fal.machines.entry import Entry
from pulumi_fal.machines.journal import Journal
from pulumi_fal.machines.late import Late
from pulumi_fal.machines.records import Records
from pulumi_fal.machines.sender import Sender
from pulumi_fal.stacks.cache import Elsewhere, Stacks

from .enumeration import quick_cases, search

Mutant = Callable[[], AbstractContextManager[Any]]


def forget_what_the_create_before_made() -> AbstractContextManager[Any]:
    """An error hook has the engine call Create again."""
    return mock.patch.object(Records, "remember")


def find_no_organization() -> AbstractContextManager[Any]:
    """The stack is in Pulumi Cloud, and the host does not tell its organization."""
    return mock.patch.object(Stacks, "_organization", return_value="")


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
    """A person takes the machine of another stack for that of a create without an answer."""
    return mock.patch.object(Stacks, "elsewhere", return_value=Elsewhere({}, {}))


def drop_the_record_of_a_create_that_may_end_late() -> AbstractContextManager[Any]:
    """The API makes a machine after a gateway has answered for it."""
    return mock.patch.object(creates, "as_late", return_value=None)


def say_nothing_of_a_late_machine() -> AbstractContextManager[Any]:
    """The API makes a machine after another create has followed, and nobody looks for it."""
    return mock.patch.object(Late, "look", return_value=())


def say_nothing_of_a_late_machine_that_a_later_list_shows() -> AbstractContextManager[Any]:
    """The list that a command reads at its start comes from a stale replica."""
    return mock.patch.object(Late, "shown", return_value=())


LOST = "neither in state nor in the journal"
UNTOLD = "is late, and a command of stack one does not say so"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutant, law",
    [
        (forget_what_the_create_before_made, "was told to the engine, which forgot it"),
        (find_no_organization, "is the only one of its name"),
        (read_the_wall_clock_once, "was made twice"),
        (change_a_record_without_its_lock, LOST),
        (look_into_no_other_stack, "which two has"),
        (drop_the_record_of_a_create_that_may_end_late, LOST),
        (say_nothing_of_a_late_machine, UNTOLD),
        (say_nothing_of_a_late_machine_that_a_later_list_shows, UNTOLD),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mend_that_is_taken_out_is_missed(mutant: Mutant, law: str) -> None:
    with mutant():
        found = search(quick_cases(), until=law)
    assert found.shortest is not None
    assert law in found.shortest.problem
    print(f"{mutant.__name__}: found by schedule {found.count}\n{found.shortest}")
