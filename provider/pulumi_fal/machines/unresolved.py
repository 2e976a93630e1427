"""Decides what to do about a create that an earlier process left unresolved, and says it.

A machine that may exist is either resumed or named in an error. Machines are never assigned by
guessing. These are pure functions: whoever wants a decision asks the API, the journal and the
`pulumi` command for what `decide` has to know.

The messages are about machines that may exist outside state. A line of one is a sentence, or a
command that can be copied as it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import FalError, UnresolvedCreateError
from pulumi_fal.machines.journal import LATE_SECONDS, Entry, Phase
from pulumi_fal.machines.whose import Same
from pulumi_fal.stacks.cache import Origin, in_words


@dataclass(frozen=True)
class Resume:
    """Continue with the machine that the earlier create made."""

    instance: Instance


@dataclass(frozen=True)
class SendAgain:
    """Send the same create again with its idempotency key, which creates no second machine."""


@dataclass(frozen=True)
class StartFresh:
    """Create a machine: it is in state, or the earlier create most likely left none.

    If the earlier create got no answer, its entry is kept as a late one.
    """

    warning: str = ""


@dataclass(frozen=True)
class Stop:
    """Create nothing until a person has decided. The error says what may exist and what to do."""

    error: UnresolvedCreateError


Decision = Resume | SendAgain | StartFresh | Stop


class Ask(Enum):
    """What has to be asked before there is a decision. It may take long."""

    INSTANCE = "instance"
    """Whether the API shows the entry's machine, and whether the key is that of its account."""
    SEARCH = "search"
    """Which machines a POST without an answer may have made."""


@dataclass(frozen=True)
class Search:
    """The machines that a POST without an answer may have made, after they had time to appear."""

    candidates: tuple[Instance, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)
    """The stacks that could not be read and may have one of them, with the reason."""

    def __bool__(self) -> bool:
        return bool(self.candidates)


@dataclass(frozen=True)
class Facts:
    """What is known about an entry. Facts that `decide` does not need may have their defaults."""

    origin: Origin
    """The resource that a machine is requested for now."""
    requested: NewInstance | None
    """What is requested for it, or None if that is not known. None counts as unchanged."""
    account: str
    """The account of the key that is set."""
    now: float
    """The time in seconds since the epoch."""
    same: Same = Same.YES
    """Whether the entry is of the resource's stack."""
    in_state: bool | None = None
    """Whether the state of the resource's stack has the entry's machine; None if not known."""
    is_replacement: bool = True
    """Whether this create replaces the entry's machine if that is in state."""
    holder: str = ""
    """The name of another stack that has the entry's machine in state."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """The stacks that could not be read and may be the entry's, with the reason."""
    has_keys: bool = True
    """Whether the API that is asked now supports idempotency keys."""
    is_own: bool = True
    """Whether the key sees the machines of the account that the entry was written with."""
    instance: Instance | None = None
    """The entry's machine as the API shows it, or None if it does not show it."""
    search: Search = field(default_factory=Search)
    """The result of the search, if the entry has no machine id."""
    error: FalError | None = None
    """The error of the API, if it could not be asked."""
    unasked: frozenset[Ask] = frozenset()
    """What is not known, because nobody has asked yet."""


def decide(entry: Entry, facts: Facts) -> Decision | Ask:
    """Decide whether a create resumes the entry's machine, creates another, or stops."""
    if facts.error is not None:
        return Stop(unseen_error(entry, facts.error))
    if facts.in_state and facts.is_replacement:
        return StartFresh()
    # A refresh of the same `up` may have found that the machine is gone, after the state was read.
    if facts.in_state and not entry.is_late:
        return Stop(made_meanwhile_error(entry))
    if _can_be_sent_again(entry, facts):
        return SendAgain()
    if Ask.INSTANCE in facts.unasked:
        return Ask.INSTANCE
    if Ask.SEARCH in facts.unasked and entry.instance_id is None and facts.is_own:
        return Ask.SEARCH
    is_unsure = facts.same is Same.UNKNOWN
    if is_unsure and facts.holder:
        return StartFresh()
    if facts.instance is None and entry.is_late:  # its own account has found that it is gone
        return StartFresh()
    if facts.instance is None and not facts.is_own:
        return Stop(other_account_error(entry, facts.account))
    if is_unsure:
        return _uncertain(entry, facts)
    if entry.instance_id is None:
        return _without_a_machine(entry, facts)
    if facts.instance is None and entry.seen:
        return StartFresh()
    # One that the API has never shown may still appear.
    instance = facts.instance or Instance(entry.instance_id, entry.instance_type)
    if facts.holder:
        return Stop(held_error(entry, facts.holder))
    if entry.phase is Phase.REPORTED:
        why = "the stack can't be read" if facts.in_state is None else "it is not in state"
        return Stop(stopped_error(entry, f"it was reported to Pulumi, but {why}"))
    if not _is_requested(entry, instance, facts.requested):
        return Stop(stopped_error(entry, "the resource's inputs have changed since"))
    return Resume(instance)


def _uncertain(entry: Entry, facts: Facts) -> Decision:
    """Decide about an entry that may be another stack's, which must not lose its machine."""
    is_left = facts.instance is not None or bool(facts.search)
    # A machine that the API has not shown yet may still appear.
    if is_left or (entry.instance_id is not None and not entry.seen):
        return Stop(uncertain_error(entry, facts))
    return StartFresh()


def _can_be_sent_again(entry: Entry, facts: Facts) -> bool:
    """Whether the API still keeps the answer to this create, and the same machine is requested."""
    is_unchanged = facts.requested is None or entry.is_for(facts.requested)
    is_same = facts.same is Same.YES and is_unchanged and entry.instance_id is None
    is_kept = entry.key_seconds_left(facts.now) > 0 and entry.account == facts.account
    return facts.has_keys and is_same and is_kept and entry.phase is Phase.REQUESTED


def _without_a_machine(entry: Entry, facts: Facts) -> Decision:
    if not facts.search:
        return StartFresh()
    if entry.searched and facts.now - entry.started > LATE_SECONDS:
        return StartFresh(late_warning(entry, facts.search))
    return Stop(unanswered_error(entry, facts.search))


def _is_requested(entry: Entry, instance: Instance, new: NewInstance | None) -> bool:
    if new is None:
        return True
    # An adopted machine may have another SSH key, which the API does not show.
    matches = entry.phase is Phase.ADOPTED or entry.is_for(new)
    if entry.is_late:  # state has the sector that it was in, whichever was requested
        has_key = entry.requested.ssh_key == new.hashed().ssh_key
        matches = has_key and new.sector in (None, instance.sector)
    return matches and instance.may_be_of(new.instance_type)


# What a person is told.

_STOPPED = "No machine is created for this resource until this is resolved."
_LOOK_AGAIN = "Run `pulumi up` again: it looks once more before it creates a machine."
_THEN = "Then run `pulumi up` again."
_DETAILS = "For details, run `pulumi-fal pending ls`."
_KILLED = "the process ended before the answer came."
CUT_OFF = (
    "its stack's state says that it was cut off, and this computer has no record of it, or no "
    "longer has one."
)
"""The problem of a create that another computer has begun."""
_CLEAR = (
    " Once it has succeeded, run `pulumi refresh --clear-pending-creates`: what state has of the "
    "cut-off create could stop a later one."
)
_AGAIN = " The attempt to send it again failed: "


def problem_of(entry: Entry, unanswered: FalError | None, last: FalError) -> str:
    """Why it is not known what a POST did, and why sending it again did not help.

    `unanswered` is the last error that leaves this open, or None if only an earlier process left
    it open. `last` is the error of the last attempt.
    """
    why = str(unanswered) if unanswered else entry.problem.partition(_AGAIN)[0] or _KILLED
    return why if last is unanswered else f"{why}{_AGAIN}{last}"


def unanswered_error(entry: Entry, search: Search) -> UnresolvedCreateError:
    """A POST had no usable answer, and `search` has found the machines that it may have made."""
    found = search.candidates
    if not found:
        return UnresolvedCreateError(
            f"{_happened(entry)}\nNo machine of type {entry.instance_type} has appeared since "
            "then, so most likely it did not.",
            f"{_LOOK_AGAIN}\nIf one appears even later, every command names it.",
        )
    return UnresolvedCreateError(
        f"{_happened(entry)}\nThese machines have appeared since then. Each may belong to this "
        f"resource, or to somebody else:\n{_lines(found)}{_may_have(search.unread)}{_STOPPED}",
        _choose(entry, _ids(found)) + (_CLEAR if entry.problem == CUT_OFF else ""),
        _ids(found),
    )


def late_warning(entry: Entry, search: Search) -> str:
    """Machines were first seen too late to come from a POST without an answer."""
    return (
        f"An earlier create for {_name(entry)} got no answer, and no machine appeared in time.\n"
        "These machines were first seen much later, so they probably belong to somebody else: "
        f"{', '.join(_ids(search.candidates))}.\n"
        f"A new machine is created. {_DETAILS}"
    )


def appeared_warning(entry: Entry, search: Search) -> str:
    """Machines that may come from a POST without an answer, or one that was gone and is back."""
    then = f"{_may_have(search.unread)}{late_advice(entry)}"
    if entry.instance_id:
        (instance,) = search.candidates
        nobody = "no resource that could be read" if search.unread else "no resource"
        return (
            f"Machine {instance.id} ({instance.instance_type}, {instance.status}) was gone, and is "
            f"there again. It is billed, and {nobody} has it; it was that of "
            f"{_name(entry)}.\n{then}"
        )
    return (
        f"{_followed(entry)}\nThese machines have appeared. Each may come from the earlier create, "
        f"or belong to somebody else:\n{_lines(search.candidates)}{then}"
    )


def may_appear_warning(entry: Entry, error: FalError | None) -> str:
    """It is not known whether a POST without an answer made a machine, after another create.

    Or it is not known whether a machine that was gone is back. `error` is that of the API, or None
    if the key is another account's.
    """
    reason = _sentence(error) if error else "the key that is set belongs to another account."
    if entry.instance_id:
        return (
            f"Machine {entry.instance_id} of {_name(entry)} was gone. Whether it is back is not "
            f"known: {reason}\n{_DETAILS}"
        )
    ids = f" These may come from it: {', '.join(entry.found)}." if entry.found else ""
    return (
        f"{_followed(entry)}\nIt is not known whether the earlier create made a machine as well: "
        f"{reason}{ids}\n{_DETAILS}"
    )


def late_advice(entry: Entry) -> str:
    """What to do about the machines of a late entry."""
    if entry.instance_id:
        return (
            f"If {_name(entry)} has no other machine, `pulumi up` continues with this one.\n"
            f"If it is not needed:{_delete(entry)}\n"
            f"If it does not belong to this resource:{_forget(entry, ' --late')}"
        )
    return (
        f"If a machine is not needed:{_delete(entry)}\n"
        "If it is needed, import it into a stack.\n"
        f"If none belongs to this resource:{_forget(entry, ' --late')}"
    )


def unseen_error(entry: Entry, error: FalError) -> UnresolvedCreateError:
    """The API could not be asked about a create's machine, or for the list of machines."""
    if entry.instance_id is None:
        return UnresolvedCreateError(
            f"{_happened(entry)}\nThe API could not be asked which machines exist: "
            f"{_sentence(error)}",
            _LOOK_AGAIN,
        )
    return UnresolvedCreateError(
        f"An earlier create for {_name(entry)} made {entry.instance_id} ({entry.instance_type}).\n"
        f"The API could not be asked whether it still runs and bills: {_sentence(error)}",
        "Run `pulumi up` again: it looks for that machine before it creates another.",
        (entry.instance_id,),
    )


def in_progress_warning(origin: Origin) -> str:
    """Another process is working on a create for this resource."""
    return (
        f"An earlier create for resource {origin.name!r} is still in progress, in the plugin of "
        "another `pulumi` or of one that was killed. Waiting for it to finish."
    )


def stopped_error(entry: Entry, why: str) -> UnresolvedCreateError:
    """A machine that a create can neither resume nor ignore, with the reason."""
    ids = _made_ids(entry)
    return UnresolvedCreateError(f"{_made(entry)}; {why}.\n{_STOPPED}", _choose(entry, ids), ids)


def held_error(entry: Entry, holder: str) -> UnresolvedCreateError:
    """A machine that another stack has in state, so that this resource can't have it."""
    return UnresolvedCreateError(
        f"{_made(entry)}; it is in the state of {holder}.\n{_STOPPED}",
        f"If it belongs there, remove the record of this create:{_forget(entry)}\n{_THEN}\n"
        "If it belongs here, remove it from that stack first, with `pulumi state delete`.",
        _made_ids(entry),
    )


def made_meanwhile_error(entry: Entry) -> UnresolvedCreateError:
    """Another command on the same stack has made the machine since this one began."""
    return UnresolvedCreateError(
        f"Another `pulumi up` of this stack has just made {entry.instance_id} "
        f"({entry.instance_type}) for {_name(entry)}, so no second machine is created.\n"
        "The machine runs and is billed.",
        "Wait until no other `pulumi` works on this stack, then run `pulumi up` again.",
        _made_ids(entry),
    )


def other_account_error(entry: Entry, account: str) -> UnresolvedCreateError:
    """A create with the key of another account than `account`, which can't see its machine."""
    return UnresolvedCreateError(
        f"{_made(entry)}; it was made with the key of another account ({entry.account}), and the "
        f"key that is set now (account {account}) does not see it.\n{_STOPPED}",
        "Set a key of that account (`pulumi-fal doctor` prints the account of the key that is "
        "set), at the endpoint and the API that it was made with, then run `pulumi up` again.\n"
        f"If the machine no longer exists:{_forget(entry)}",
        _made_ids(entry),
    )


def uncertain_error(entry: Entry, facts: Facts) -> UnresolvedCreateError:
    """A create that may be of this stack, or of another one, which must not lose its machine."""
    found = facts.search.candidates
    ids = _made_ids(entry) or _ids(found)
    machines = f"It may be any of these:\n{_lines(found)}" if found else ""
    why = f"These stacks could not be read:\n{_reasons(facts.unread)}" if facts.unread else ""
    urn, origin = facts.origin.urn, entry.origin
    made_for = f"the stack {origin.stack} of the project {origin.project}"
    if origin.backend not in ("", facts.origin.backend):
        made_for += f" in {origin.backend}"
    return UnresolvedCreateError(
        f"{_made(entry)}.\nIt was made for {made_for}, and it is not known whether that is this "
        f"stack.\n{why}{machines}{_STOPPED}",
        _choose(entry, ids, f" --for {shlex.quote(urn)}" if urn != origin.urn else ""),
        ids,
    )


def combined_error(errors: Iterable[UnresolvedCreateError]) -> UnresolvedCreateError:
    """Several unresolved creates that stop a new one, as one error."""
    *others, last = errors
    return UnresolvedCreateError(
        "\n".join([*map(str, others), last.happened]),
        last.what_to_do,
        tuple(candidate for error in (*others, last) for candidate in error.candidates),
    )


def gone_warning(entry: Entry) -> str:
    """The machine of an earlier create is gone, and another one is made."""
    return (
        f"Machine {entry.instance_id} ({entry.instance_type}), which an earlier create made for "
        f"{_name(entry)}, is gone. A new machine is created. If that one comes back within an "
        "hour, every command names it."
    )


def reminder(entry: Entry) -> str:
    """The warning that each command shows about an unresolved create of its stack."""
    if entry.instance_id is None:
        return (
            f"An earlier create for {_name(entry)} ended without an answer, so a machine that is "
            "not in state may be running.\n"
            f"`pulumi up` looks for it; `pulumi destroy` does not delete it.\n{_DETAILS}"
        )
    return (
        f"Machine {entry.instance_id} ({entry.instance_type}) was made for {_name(entry)}. It was "
        "not in state when this command began, and may still run and be billed.\n"
        f"{_up(entry)} `pulumi destroy` does not delete it.\n{_DETAILS}"
    )


def _up(entry: Entry) -> str:
    if entry.phase is Phase.REPORTED:  # it may have been removed from state on purpose
        return "`pulumi up` stops and says how to go on."
    return "`pulumi up` continues with it if the resource is in the program."


def _choose(entry: Entry, ids: Sequence[str], options: str = "") -> str:
    """Return what to do about the machine of a create, or about the candidates."""
    if len(ids) == 1:
        id_, one, none_belongs = ids[0], "it", "it does not belong"
    else:
        id_, one, none_belongs = "ID", "one of them", "none belongs"
    urn = shlex.quote(entry.origin.urn)
    return (
        f"To use {one} for this resource:\n  pulumi-fal pending adopt {urn} {id_}{options}\n"
        f"If {one} is not needed:{_delete(entry, id_)}\n"
        f"If {none_belongs} to this resource:{_forget(entry)}\n{_THEN}"
    )


def _delete(entry: Entry, instance_id: str = "ID") -> str:
    # The machine that a create is known to have made counts as had by it.
    force = " --force" if entry.instance_id else ""
    return f"\n  pulumi-fal delete {entry.instance_id or instance_id}{force}"


def _forget(entry: Entry, options: str = "") -> str:
    return f"\n  pulumi-fal pending forget {shlex.quote(entry.origin.urn)}{options}"


def _may_have(unread: Mapping[str, str]) -> str:
    if not unread:
        return ""
    return f"These stacks could not be read, and may have one of them:\n{_reasons(unread)}"


def _reasons(unread: Mapping[str, str]) -> str:
    return "".join(f"  {line}\n" for line in in_words(unread))


def _followed(entry: Entry) -> str:
    return (
        f"An earlier create for {_name(entry)} got no answer, and was followed by another one or "
        "forgotten."
    )


def _happened(entry: Entry) -> str:
    what = entry.problem or _KILLED
    return f"A create for {_name(entry)} may have made a machine: {what}"


def _made(entry: Entry) -> str:
    if entry.instance_id:
        made = f"made {entry.instance_id} ({entry.instance_type}), and it"
    else:
        made = f"ended without an answer, and a machine of type {entry.instance_type}"
    return f"An earlier create for {_name(entry)} {made} may still run and bill"


def _sentence(error: FalError) -> str:
    return f"{error}".rstrip(".") + "."


def _lines(instances: Iterable[Instance]) -> str:
    return "".join(f"  {instance}\n" for instance in instances)


def _ids(instances: Iterable[Instance]) -> tuple[str, ...]:
    return tuple(instance.id for instance in instances)


def _made_ids(entry: Entry) -> tuple[str, ...]:
    return (entry.instance_id,) if entry.instance_id else ()


def _name(entry: Entry) -> str:
    return f"resource {entry.origin.name!r}"
