"""A law that is broken on purpose is noticed: else the simulation would prove nothing."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import Phase as Searching
from hypothesis import seed, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from pulumi_fal.api import retry
from pulumi_fal.api.dialects import Dialect, Request
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.cli.common import Reader
from pulumi_fal.errors import StillThereError
from pulumi_fal.machines import capacity, earlier, fleet, whose
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.creates import Create, Creates
from pulumi_fal.machines.journal import Entry, Journal, Phase
from pulumi_fal.machines.lifecycle import Deletion, Lifecycle
from pulumi_fal.machines.records import Records
from pulumi_fal.machines.unresolved import Ask, Decision, Facts, decide
from pulumi_fal.machines.whose import Asking, Evidence, Same
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import Call
from pulumi_fal.resource.inputs import UNFINISHED
from pulumi_fal.resource.operations import Diff
from pulumi_fal.stacks.state import Found

from . import plugin
from .enumeration import quick_cases, search
from .journal import Journal as MemoryJournal
from .plugin import Event
from .schedules import PROGRAMS, QUICK, Interleaved, KeyedSchedules, Narrowing, Schedules

Patch = AbstractContextManager[Any]
Created = Callable[..., Request[Instance]]


def instead(where: Any, name: str, *new: Any, **options: Any) -> Callable[[], Patch]:
    """A mutant that has something else under a name of the package."""
    return lambda: mock.patch.object(where, name, *new, **options)


def setting(**others: Any) -> Callable[[], Patch]:
    """A mutant with other settings."""
    return instead(plugin, "SETTINGS", replace(plugin.SETTINGS, **others))


# What stands in for a function of the package. The last argument is the function itself.


def with_another_key(
    self: Dialect, new: NewInstance, key: str = "", create: Created = Dialect.create_instance
) -> Request[Instance]:
    return create(self, new, f"{key}-{random.random()}")


def write_late(self: Journal, entry: Entry, write: Any = MemoryJournal.write) -> None:
    if entry.phase is not Phase.REQUESTED or entry.problem:
        write(self, entry)


class NoMemory(set[str]):
    def add(self, element: str) -> None:
        """Nobody remembers."""


class Silent(threading.Condition):
    def notify_all(self) -> None:
        """Nobody hears."""


def since_the_first_try() -> Patch:
    both = ExitStack()
    both.enter_context(mock.patch.object(earlier, "_ended", lambda entry: entry.started))
    both.enter_context(mock.patch.object(Create, "_note_repeat", Create._key_is_kept))
    return both


def by_name(entry: Entry, asking: Asking, found: Found, same: Any = whose.same_stack) -> Same:
    is_other = entry.origin.names != asking.origin.names
    return Same.NO if is_other else same(entry, asking, found)


def delete_once(self: Lifecycle, instance_id: str, seconds: float) -> bool:
    Deletion(self._account, instance_id, seconds).send()
    return True


def delete_until_one_list(self: Lifecycle, instance_id: str, seconds: float) -> bool:
    request = Deletion(self._account, instance_id, seconds)
    request.send()
    for answer in self._fleet.watch(seconds):
        if not answer.error and instance_id not in answer.instances:
            return True
        request.send()
    raise StillThereError(instance_id, "still there")


def find_in_list(self: Lifecycle, instance_id: str, seconds: float = 0) -> Instance | None:
    return self._fleet.fresh().get(instance_id)


def decide_with(facts: Mapping[str, Any], entry: Mapping[str, Any]) -> Callable[[], Patch]:
    """A mutant that decides as if the facts, or the entry, said so."""

    def decided(about: Entry, known: Facts) -> Decision | Ask:
        return decide(replace(about, **entry), replace(known, **facts))

    return instead(earlier, "decide", decided)


def reading(**less: Any) -> Callable[[], Patch]:
    """A mutant whose commands get less to judge from."""

    def read(
        self: Reader,
        instances: Sequence[Instance],
        read: Callable[..., Evidence] = Reader.read,
    ) -> Evidence:
        return replace(read(self, instances), **less)

    return instead(Reader, "read", read)


def settle_unseen(
    self: Records, urn: str, id_: str, *, is_proven: bool, settle: Any = Records.settle
) -> None:
    settle(self, urn, id_, is_proven=True)


def diff_that_looks(
    account: Account, call: Call, id_: str, *inputs: Mapping[str, Any], diff: Any = operations.diff
) -> Diff:
    is_own = account.is_known_own(AccountId.of(inputs[0]))
    if is_own and account.lifecycle.look(id_) is None:
        return Diff(["instance_type"], True)
    found: Diff = diff(account, call, id_, *inputs)
    return found


MUTANTS: dict[str, Callable[[], Patch]] = {
    "repeat every POST": instead(retry, "may_repeat", return_value=True),
    "forget an unanswered POST": instead(retry, "may_have_made_a_machine", return_value=False),
    "make a new key for a repeat": instead(Dialect, "create_instance", with_another_key),
    "write the journal after the POST": instead(MemoryJournal, "write", write_late),
    "resume what was reported": instead(Records, "mark_reported"),
    "delete what was resumed": instead(
        Creates, "resumed_ids", property(lambda _: NoMemory(), lambda *_: None), create=True
    ),
    "give no time to appear": setting(settle_seconds=0.001),
    "count the settle time from the first try": since_the_first_try,
    "take another stack for this one": instead(whose, "same_stack", return_value=Same.YES),
    "take another name for another stack": instead(whose, "same_stack", by_name),
    "skip a renamed record in progress": instead(Create, "_lock_all", return_value=None),
    "ignore a create in progress": instead(MemoryJournal, "try_lock", return_value=nullcontext()),
    "take an accepted delete for its end": instead(Lifecycle, "delete", delete_once),
    "believe one list after a delete": instead(Lifecycle, "delete", delete_until_one_list),
    "believe the list alone": instead(Lifecycle, "confirm_gone", find_in_list),
    "believe two looks": instead(Lifecycle, "confirm_gone", Lifecycle.look),
    "need no time to be gone": setting(absence_seconds=0.001),
    "believe any account": instead(Account, "is_known_own", return_value=True),
    "take what was never shown for gone": decide_with({}, {"seen": True}),
    "drop what was never shown from state": instead(Records, "was_never_shown", return_value=False),
    "drop a record of what was not seen": instead(Records, "settle", settle_unseen),
    "take what was reported for nobody's": reading(entries=[]),
    "take what is unread for read": reading(unread={}),
    "import whatever there is": instead(operations, "refuse_taken"),
    "let a diff look for the machine": instead(operations, "diff", diff_that_looks),
    "ask again after a refusal that lied": instead(Create, "_refuse_if_made"),
    "replace what was made meanwhile": decide_with({"is_replacement": True}, {}),
    "ignore other computers": instead(Create, "_refuse_if_cut_off"),
    "ignore aliases": instead(
        Create, "aliases", property(lambda _: (), lambda *_: None), create=True
    ),
    "tell nobody of an answer": instead(fleet, "threading", mock.Mock(Condition=Silent)),
    "tell nobody of room": instead(capacity, "threading", mock.Mock(Condition=Silent)),
    "say nothing of a late machine": instead(earlier, "look_for_late", return_value=()),
    "keep the record of a refused create": instead(Records, "drop"),
}


@dataclass(frozen=True)
class Search(Narrowing):
    """How a mutant is searched for."""

    law: str
    """What is said of the broken law: a pattern."""
    machine: type[Schedules] = Schedules
    seed: int = 5
    """What is drawn follows from it: with this one, all that are quick are found soon."""


LOST = "neither in state nor in the journal|is not named"
TWICE = "was made twice"
GONE = "for gone, which runs"
STILL = "which was still there"
TAKEN = "is called forgotten|, which .* has"
ANY = f"{LOST}|{TWICE}|{GONE}|{STILL}|removes the record|it does not settle"
"""Of a mistake that shows in more than one way, whichever comes first."""
UNAWAITED = next(program for program in PROGRAMS if program.get("wait") is False)
WAITING = next(inputs for inputs in PROGRAMS if "wait_for_capacity" in inputs)
UNDISTURBED = (("list", "ok"),)
HIDDEN: dict[str, Any] = {
    "events": (Event.GLITCH,),
    "at": (1,),
    "faults": UNDISTURBED,
    "lag": 0.0,
}
KILLED: dict[str, Any] = {"events": (Event.KILL,), "at": ("create is taken",)}
DYING: dict[str, Any] = {
    "machine": Interleaved,
    "events": (Event.ENGINE_DIES,),
    "at": ("create is sent",),
    "faults": (("create", "taken_late"),),
}
QUICK_ONES = {
    "repeat every POST": Search(f"{TWICE}|was only created after"),
    "make a new key for a repeat": Search(TWICE, KeyedSchedules, **KILLED),
    "resume what was reported": Search(f"was to be another machine|is gone|{ANY}"),
    "take another stack for this one": Search(f"which it did not make|{ANY}"),
    "take an accepted delete for its end": Search(STILL),
    "believe the list alone": Search(GONE, **HIDDEN),
    "need no time to be gone": Search(f"{GONE}|{TWICE}", **HIDDEN),
    "believe any account": Search(ANY, faults=UNDISTURBED, lag=0.0),
    "let a diff look for the machine": Search("which its preview did not say", seed=2, **HIDDEN),
    "skip a renamed record in progress": Search(ANY, move="rename", lag=0.0, **DYING),
    "drop what was never shown from state": Search(ANY, program=UNAWAITED, lag=90.0),
    "take what was never shown for gone": Search(GONE, program=UNAWAITED, lag=90.0),
    "import whatever there is": Search("imports .*, which .* has", seed=2),
    "drop a record of what was not seen": Search(
        "removes the record of", program=UNAWAITED, lag=90.0
    ),
    "ignore a create in progress": Search(f"{TWICE}|which it did not make", **DYING),
    "ask again after a refusal that lied": Search(
        TWICE, faults=(("create", "no_room_but_made"),), program=WAITING, lag=0.0
    ),
    "replace what was made meanwhile": Search(
        ANY, Interleaved, events=(Event.UNLOCKED,), at=("create is taken",)
    ),
    "keep the record of a refused create": Search(
        "is on record, but", faults=(("create", "no_room"),), program=WAITING
    ),
}
SLOW_ONES = {
    "forget an unanswered POST": Search(LOST),
    "write the journal after the POST": Search(LOST),
    "delete what was resumed": Search(
        "which it just took",
        events=(Event.DISK_FULL,),
        at=("a wait ends",),
        faults=UNDISTURBED,
        unread="every stack",
    ),
    "give no time to appear": Search(f"{TWICE}|{LOST}"),
    "count the settle time from the first try": Search(
        f"{TWICE}|{LOST}", faults=(("create", "429_for_long"),), lag=19.0, **KILLED
    ),
    "take another name for another stack": Search(TWICE, move="rename", **KILLED),
    "believe two looks": Search(GONE, events=HIDDEN["events"]),
    "believe one list after a delete": Search(STILL, faults=(("list", "lapse"),)),
    "take what was reported for nobody's": Search(TAKEN),
    "take what is unread for read": Search(TAKEN),
    "ignore other computers": Search(TWICE, lag=0.0, **KILLED),
    "ignore aliases": Search(TWICE, **KILLED),
    "tell nobody of an answer": Search("nobody asks", Interleaved),
    "tell nobody of room": Search("nobody asks", Interleaved, program=WAITING),
    "say nothing of a late machine": Search(
        f"is late, and a command|{TWICE}",
        faults=(("create", "504_then_made"), ("list", "lapse")),
    ),
}
"""They take many schedules to find, and break laws that other mutants break as well."""
WITHIN = 3000
"""Schedules: many times what it takes, so that any seed will do."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutant, case",
    [
        *QUICK_ONES.items(),
        *(pytest.param(*row, marks=pytest.mark.chaos) for row in SLOW_ONES.items()),
    ],
    ids=[*QUICK_ONES, *SLOW_ONES],
)
def test_a_broken_law_is_found(
    mutant: str, case: Search, record_property: Callable[[str, object], None]
) -> None:
    """Within so many schedules; how many it took is in the report."""

    class Searched(case.machine):  # type: ignore[name-defined, misc]
        narrowing = case
        count = 0

        @invariant()
        def laws(self) -> None:
            """The mutant may break others before."""
            try:
                super().laws()
            except AssertionError as broken:
                if re.search(case.law, str(broken)):
                    raise

    searching = settings(QUICK, max_examples=WITHIN, phases=[Searching.generate])
    with MUTANTS[mutant](), pytest.raises(AssertionError, match=case.law):
        run_state_machine_as_test(seed(case.seed)(Searched), settings=searching)
    record_property("schedules", Searched.count - 1)  # the last one shows it again
    print(f"{mutant}: found by schedule {Searched.count - 1}")


def test_each_is_searched() -> None:
    assert QUICK_ONES.keys() | SLOW_ONES.keys() == MUTANTS.keys()


# Each mend of a lost or doubled machine is needed: the enumeration finds one without it.


def exchange_unlocked(self: Journal, read: Entry, new: Entry | None) -> bool:
    if new is not None:
        self.write(new)
    if new is None or new.origin != read.origin:
        self.drop(read)
    return True


def change_unlocked() -> Patch:
    """The last look of a create at the records would find what another process has written."""
    both = ExitStack()
    both.enter_context(mock.patch.object(Journal, "exchange", exchange_unlocked))
    both.enter_context(mock.patch.object(Create, "_refuse_if_overtaken"))
    return both


def delete_plainly(
    account: Account,
    call: Call,
    id_: str,
    props: Mapping[str, Any],
    delete: Any = operations.delete,
) -> None:
    delete(account, call, id_, {**props, UNFINISHED: True})


MENDS = {
    "forget what the create before made": (
        instead(Records, "made", return_value=None),
        "was told to the engine, which forgot it",
    ),
    "read the wall clock once": (instead(Create, "_key_is_kept", return_value=True), TWICE),
    "delete what is there again": (
        instead(operations, "delete", delete_plainly),
        "which is there again",
    ),
    "change a record without its lock": (change_unlocked, TWICE),
    "look into no other stack": (
        instead(Reader, "_read_stacks", return_value=Found()),
        "is called forgotten",
    ),
    "drop the record of a create that may end late": (
        instead(Entry, "as_late", return_value=None),
        "neither in state nor in the journal",
    ),
    "say nothing of a late machine": (
        MUTANTS["say nothing of a late machine"],
        "is late, and a command of stack one does not say so",
    ),
}
"""What is taken out, and the law that breaks."""
SITUATION = {"delete what is there again": "found gone"}
"""Where it is searched for, if that is enough."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mend",
    [
        pytest.param(mend, marks=() if number < 3 else pytest.mark.chaos)
        for number, mend in enumerate(MENDS)
    ],
)
def test_a_missing_mend_is_found(mend: str) -> None:
    """The last four take thousands of schedules."""
    mutant, law = MENDS[mend]
    where = SITUATION.get(mend, "")
    with mutant():
        some = (case for case in quick_cases() if case.situation.name.startswith(where))
        found = search(some, until=law)
    assert found.shortest is not None
    assert law in found.shortest.problem
    print(f"{mend}: found by schedule {found.count}\n{found.shortest}")
