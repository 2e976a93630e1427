"""A law that is broken on purpose is noticed: else the simulation would prove nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import Phase as Searching
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from pulumi_fal.api import retry
from pulumi_fal.api.dialects import Dialect, Request
from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.cli.common import Reader
from pulumi_fal.errors import StillThereError
from pulumi_fal.machines import capacity, earlier, fleet, whose
from pulumi_fal.machines.account import Account, Records
from pulumi_fal.machines.creates import Creates
from pulumi_fal.machines.journal import Entry, Journal, Phase
from pulumi_fal.machines.lifecycle import Deletion, Lifecycle
from pulumi_fal.machines.unresolved import Ask, Decision, Facts, decide
from pulumi_fal.machines.whose import Asking, Evidence, Same
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import Call
from pulumi_fal.resource.operations import Diff
from pulumi_fal.stacks.cache import Origin
from pulumi_fal.stacks.state import Found

from . import plugin
from .plugin import Conditions, Event
from .schedules import PROGRAMS, QUICK, Interleaved, KeyedSchedules, Schedules, with_single_lapses

Mutant = Callable[[], AbstractContextManager[Any]]


def repeat_every_post() -> AbstractContextManager[Any]:
    return mock.patch.object(retry, "may_repeat", return_value=True)


def make_a_new_key_for_a_repeat() -> AbstractContextManager[Any]:
    create = Dialect.create_instance

    def anew(self: Dialect, new: NewInstance, key: str = "") -> Request[Instance]:
        return create(self, new, f"{key}-{random.random()}")

    return mock.patch.object(Dialect, "create_instance", anew)


def write_the_journal_after_the_post() -> AbstractContextManager[Any]:
    write = Journal.write

    def late(self: Journal, entry: Entry) -> None:
        if entry.phase is not Phase.REQUESTED or entry.problem:
            write(self, entry)

    return mock.patch.object(Journal, "write", late)


def resume_what_was_reported() -> AbstractContextManager[Any]:
    return mock.patch.object(Records, "mark_reported")


class _Nothing(set[str]):
    def add(self, element: str) -> None:
        """Nobody remembers."""


def delete_what_was_resumed() -> AbstractContextManager[Any]:
    nothing = property(lambda self: _Nothing(), lambda self, value: None)
    return mock.patch.object(Creates, "resumed_ids", nothing, create=True)


def forget_a_post_without_an_answer() -> AbstractContextManager[Any]:
    return mock.patch.object(retry, "may_have_made_a_machine", return_value=False)


def give_no_time_to_appear() -> AbstractContextManager[Any]:
    return mock.patch.object(plugin, "SETTINGS", replace(plugin.SETTINGS, settle_seconds=0.001))


@contextmanager
def count_the_settle_time_from_the_first_try() -> Iterator[None]:
    with (
        mock.patch.object(earlier, "_ended", lambda entry: entry.started),
        mock.patch.object(Creates, "_may_send_again", Creates._may_send),
    ):
        yield


def take_another_stack_for_this_one() -> AbstractContextManager[Any]:
    return mock.patch.object(whose, "same_stack", return_value=Same.YES)


def take_another_name_for_another_stack() -> AbstractContextManager[Any]:
    same_stack = whose.same_stack

    def by_name(entry: Entry, asking: Asking, found: Found) -> Same:
        is_other = entry.origin.names != asking.origin.names
        return Same.NO if is_other else same_stack(entry, asking, found)

    return mock.patch.object(whose, "same_stack", by_name)


def skip_a_renamed_record_in_progress() -> AbstractContextManager[Any]:
    return mock.patch.object(Creates, "_lock_all", return_value=None)


def ignore_a_create_in_progress() -> AbstractContextManager[Any]:
    return mock.patch.object(Journal, "try_lock", return_value=nullcontext())


def take_an_accepted_delete_for_its_end() -> AbstractContextManager[Any]:
    def hasty(self: Lifecycle, instance_id: str, seconds: float) -> bool:
        Deletion(self._client, instance_id, self._clock, self._notify, seconds).send()
        return True

    return mock.patch.object(Lifecycle, "delete", hasty)


def believe_the_list_alone() -> AbstractContextManager[Any]:
    def listed(self: Lifecycle, instance_id: str, seconds: float = 0) -> Instance | None:
        return self._fleet.fresh().get(instance_id)

    return mock.patch.object(Lifecycle, "find", listed)


def believe_two_looks() -> AbstractContextManager[Any]:
    return mock.patch.object(Lifecycle, "find", Lifecycle.look)


def need_no_time_to_be_gone() -> AbstractContextManager[Any]:
    return mock.patch.object(plugin, "SETTINGS", replace(plugin.SETTINGS, absence_seconds=0.001))


def believe_one_list_after_a_delete() -> AbstractContextManager[Any]:
    def hasty(self: Lifecycle, instance_id: str, seconds: float) -> bool:
        request = Deletion(self._client, instance_id, self._clock, self._notify, seconds)
        request.send()
        for answer in self._fleet.watch(seconds):
            if not answer.error and instance_id not in answer.instances:
                return True
            request.send()
        raise StillThereError(instance_id, "still there")

    return mock.patch.object(Lifecycle, "delete", hasty)


def believe_any_account() -> AbstractContextManager[Any]:
    return mock.patch.object(Account, "is_own", return_value=True)


def take_a_machine_that_was_never_shown_for_gone() -> AbstractContextManager[Any]:
    def seen(entry: Entry, known: Facts) -> Decision | Ask:
        return decide(replace(entry, seen=True), known)

    return mock.patch.object(earlier, "decide", seen)


def drop_a_machine_from_state_that_was_never_shown() -> AbstractContextManager[Any]:
    return mock.patch.object(Records, "was_never_shown", return_value=False)


def take_what_was_reported_for_nobodys() -> AbstractContextManager[Any]:
    return _with_evidence(lambda read: replace(read, entries=[]))


def take_what_is_unread_for_read() -> AbstractContextManager[Any]:
    return _with_evidence(lambda read: replace(read, unread={}))


def _with_evidence(changed: Callable[[Evidence], Evidence]) -> AbstractContextManager[Any]:
    read = Reader.read

    def less(self: Reader, instances: Sequence[Instance]) -> Evidence:
        return changed(read(self, instances))

    return mock.patch.object(Reader, "read", less)


def import_whatever_there_is() -> AbstractContextManager[Any]:
    return mock.patch.object(operations, "refuse_taken")


def drop_a_record_before_the_machine_was_seen() -> AbstractContextManager[Any]:
    drop = Journal.drop_entry_for

    def early(self: Journal, urn: str, instance_id: str, *, is_proven: bool) -> None:
        drop(self, urn, instance_id, is_proven=True)

    return mock.patch.object(Journal, "drop_entry_for", early)


def let_a_diff_look_for_the_machine() -> AbstractContextManager[Any]:
    diff = operations.diff

    def asking(account: Account, call: Call, id_: str, *inputs: Mapping[str, Any]) -> Diff:
        is_own = account.is_own(AccountId.of(inputs[0]))
        if is_own and account.lifecycle.look(id_) is None:
            return Diff(["instance_type"], True)
        return diff(account, call, id_, *inputs)

    return mock.patch.object(operations, "diff", asking)


def ask_again_after_a_refusal_that_lied() -> AbstractContextManager[Any]:
    return mock.patch.object(Creates, "_refuse_if_made")


def replace_what_was_made_meanwhile() -> AbstractContextManager[Any]:
    def known(entry: Entry, facts: Facts) -> Decision | Ask:
        return decide(entry, replace(facts, is_known=True))

    return mock.patch.object(earlier, "decide", known)


def ignore_what_state_tells_of_other_computers() -> AbstractContextManager[Any]:
    return mock.patch.object(Creates, "_refuse_if_cut_off")


def ignore_aliases() -> AbstractContextManager[Any]:
    entries_of = Creates._entries_of

    def of_one_name(self: Creates, origin: Origin, aliases: Sequence[str], locks: ExitStack) -> Any:
        return entries_of(self, origin, (), locks)

    return mock.patch.object(Creates, "_entries_of", of_one_name)


class _Silent(threading.Condition):
    def notify_all(self) -> None:
        """Nobody hears."""


@contextmanager
def tell_nobody_of_an_answer() -> Iterator[None]:
    with mock.patch.object(fleet, "threading", mock.Mock(Condition=_Silent)):
        yield


@contextmanager
def tell_nobody_of_room() -> Iterator[None]:
    with mock.patch.object(capacity, "threading", mock.Mock(Condition=_Silent)):
        yield


def say_nothing_of_a_late_machine() -> AbstractContextManager[Any]:
    return mock.patch.object(earlier, "look_for_late", return_value=())


def keep_the_record_of_a_refused_create() -> AbstractContextManager[Any]:
    return mock.patch.object(Records, "drop")


@dataclass(frozen=True)
class Case:
    """A broken law, and how it is searched for."""

    mutant: Mutant
    law: str
    """What is said of it: a pattern."""
    machine: type[Schedules] = Schedules
    within: int = 3000
    """Schedules: many times what it takes, so that any seed will do."""
    events: tuple[Event, ...] = ()
    at: tuple[str, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()
    """The faults that show the mutant, where only few of all faults do."""
    unread: str = ""
    """What no disturbed command can read, where only that shows the mutant."""
    program: dict[str, Any] = field(default_factory=lambda: PROGRAMS[0])
    """What the resources are at first."""
    move: str = ""
    """What becomes of stacks, where only that shows it."""
    lag: float | None = None
    """The seconds until a new machine is listed or known to GET, where only such a lag shows it."""

    def weather(self, conditions: Conditions) -> Conditions:
        """The same with this case's disturbances in place of those that were drawn."""
        events, faults = conditions.events, conditions.faults
        if self.events:
            events = tuple((at, self.events[len(event) % len(self.events)]) for at, event in events)
        if self.at:
            events = tuple((self.at[len(event) % len(self.at)], event) for _, event in events)
        if self.faults:
            faults = with_single_lapses(
                (*self.faults[len(name) % len(self.faults)], times) for _, name, times in faults
            )
        unread = self.unread or conditions.unread
        return replace(conditions, events=events, faults=faults, unread=unread)


LOST = "neither in state nor in the journal|is not named"
TWICE = "was made twice"
GONE = "for gone, which runs"
ANY = f"{LOST}|{TWICE}|{GONE}|which was still there|it does not settle"
"""Of a mistake that shows in more than one way, whichever comes first."""
UNAWAITED = next(program for program in PROGRAMS if program.get("wait") is False)
WAITING = next(inputs for inputs in PROGRAMS if "wait_for_capacity" in inputs)
CASES = [
    Case(repeat_every_post, f"{TWICE}|was only created after"),
    Case(forget_a_post_without_an_answer, LOST),
    Case(
        make_a_new_key_for_a_repeat,
        TWICE,
        KeyedSchedules,
        events=(Event.KILL,),
        at=("create is taken",),
    ),
    Case(write_the_journal_after_the_post, LOST),
    Case(resume_what_was_reported, f"was to be another machine|is gone|{ANY}"),
    Case(
        delete_what_was_resumed,
        "which it just took",
        events=(Event.DISK_FULL,),
        at=("a wait ends",),
        faults=(("list", "ok"),),
        unread="every stack",
    ),
    Case(give_no_time_to_appear, f"{TWICE}|{LOST}"),
    Case(
        count_the_settle_time_from_the_first_try,
        f"{TWICE}|{LOST}",
        events=(Event.KILL,),
        at=("create is taken",),
        faults=(("create", "429_for_long"),),
        lag=19.0,
    ),
    Case(take_another_stack_for_this_one, f"which it did not make|{ANY}"),
    Case(take_an_accepted_delete_for_its_end, "which was still there"),
    Case(believe_the_list_alone, GONE, events=(Event.GLITCH,)),
    Case(believe_two_looks, GONE, events=(Event.GLITCH,)),
    Case(need_no_time_to_be_gone, f"{GONE}|{TWICE}", events=(Event.GLITCH,)),
    Case(believe_one_list_after_a_delete, "which was still there", faults=(("list", "lapse"),)),
    Case(believe_any_account, ANY),
    Case(
        let_a_diff_look_for_the_machine,
        "which its preview did not say",
        events=(Event.GLITCH,),
        faults=(("list", "ok"),),
        lag=0.0,
    ),
    Case(
        take_another_name_for_another_stack,
        TWICE,
        events=(Event.KILL,),
        at=("create is taken",),
        move="rename",
    ),
    Case(
        skip_a_renamed_record_in_progress,
        ANY,
        Interleaved,
        events=(Event.ENGINE_DIES,),
        at=("create is sent",),
        faults=(("create", "taken_late"),),
        move="rename",
    ),
    Case(take_a_machine_that_was_never_shown_for_gone, ANY, lag=19.0),
    Case(drop_a_machine_from_state_that_was_never_shown, ANY, program=UNAWAITED, lag=90.0),
    Case(take_what_was_reported_for_nobodys, "is called forgotten|, which .* has"),
    Case(take_what_is_unread_for_read, "is called forgotten|, which .* has"),
    Case(import_whatever_there_is, "imports .*, which .* has"),
    Case(
        drop_a_record_before_the_machine_was_seen,
        "removes the record of",
        program=UNAWAITED,
        lag=90.0,
    ),
    Case(
        ignore_a_create_in_progress,
        f"{TWICE}|which it did not make",
        Interleaved,
        events=(Event.ENGINE_DIES,),
        at=("create is sent",),
        faults=(("create", "taken_late"),),
    ),
    Case(
        ask_again_after_a_refusal_that_lied,
        TWICE,
        faults=(("create", "no_room_but_made"),),
        program=WAITING,
        lag=0.0,
    ),
    Case(
        replace_what_was_made_meanwhile,
        ANY,
        Interleaved,
        events=(Event.UNLOCKED,),
        at=("create is taken",),
    ),
    Case(
        ignore_what_state_tells_of_other_computers,
        TWICE,
        events=(Event.KILL,),
        at=("create is taken",),
        lag=0.0,
    ),
    Case(ignore_aliases, TWICE, events=(Event.KILL,), at=("create is taken",)),
    Case(tell_nobody_of_an_answer, "nobody asks", Interleaved),
    Case(tell_nobody_of_room, "nobody asks", Interleaved, program=WAITING),
    Case(
        say_nothing_of_a_late_machine,
        f"is late, and a command|{TWICE}",
        faults=(("create", "504_then_made"), ("list", "lapse")),
    ),
    Case(
        keep_the_record_of_a_refused_create,
        "is on record, but",
        faults=(("create", "no_room"),),
        program=WAITING,
    ),
]


SLOW = (
    say_nothing_of_a_late_machine,
    take_what_was_reported_for_nobodys,
    ignore_aliases,
    ignore_what_state_tells_of_other_computers,
    write_the_journal_after_the_post,
    count_the_settle_time_from_the_first_try,
    take_a_machine_that_was_never_shown_for_gone,
    take_another_name_for_another_stack,
    give_no_time_to_appear,
    delete_what_was_resumed,
    tell_nobody_of_an_answer,
    tell_nobody_of_room,
    believe_one_list_after_a_delete,
    believe_two_looks,
    take_what_is_unread_for_read,
    forget_a_post_without_an_answer,
)
"""They take many schedules to find, and break laws that other mutants break as well."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            marks=[pytest.mark.chaos, pytest.mark.timeout(600)] if case.mutant in SLOW else (),
        )
        for case in CASES
    ],
    ids=lambda case: case.mutant.__name__,
)
def test_a_broken_law_is_found(case: Case, record_property: Callable[[str, object], None]) -> None:
    """Within so many schedules; how many it took is in the report."""
    count = 0

    class Counted(case.machine):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            nonlocal count
            count += 1
            super().__init__()

        def weather(self, conditions: Conditions) -> Conditions:
            return case.weather(conditions)

        program = case.program

        def way(self, move: str) -> str:
            return case.move or move

        def lags(self, lag: float, reads_lag: bool) -> tuple[float, bool]:
            return (lag, reads_lag) if case.lag is None else (case.lag, True)

    searching = settings(QUICK, max_examples=case.within, phases=[Searching.generate])
    with case.mutant(), pytest.raises(AssertionError, match=case.law):
        run_state_machine_as_test(Counted, settings=searching)
    record_property("schedules", count - 1)  # the last one shows it again
    print(f"{case.mutant.__name__}: found by schedule {count - 1}")
