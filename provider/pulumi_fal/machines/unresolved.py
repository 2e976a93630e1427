"""Messages about machines that may exist outside state, and how to resolve each."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from pulumi_fal.api.models import Instance
from pulumi_fal.errors import FalError, JournalError, UnresolvedCreateError
from pulumi_fal.machines.journal import RETURNED, Entry, Journal
from pulumi_fal.stack import Origin

NOTHING: Mapping[str, str] = MappingProxyType({})


def unanswered(
    entry: Entry, candidates: Iterable[Instance], unread: Mapping[str, str] = NOTHING
) -> UnresolvedCreateError:
    """A POST without a usable answer, once there was time to look for its machine.

    `unread`: stacks that may have a candidate, but could not be read, with the reason.
    """
    found = list(candidates)
    if not found:
        return UnresolvedCreateError(
            f"{_happened(entry)} None of type {entry.instance_type} has appeared since, so it most "
            "likely did not. It is safe to run `pulumi up` again: it looks once more first.",
            is_settled=True,
        )
    urn = shlex.quote(entry.origin.urn)
    reasons = "".join(f"  {name}: {why}\n" for name, why in unread.items())
    may_have = f"These may have them, and could not be read:\n{reasons}" if unread else ""
    return UnresolvedCreateError(
        f"{_happened(entry)}\nSince then these have appeared; any may be this resource's, or "
        "somebody else's:\n"
        f"{_lines(found)}{may_have}Nothing more is made for this resource until that is settled. "
        f"If one is this resource's: `pulumi-fal pending adopt {urn} ID`. If one is of no use: "
        f"delete it. If none is this resource's: `pulumi-fal pending forget {urn}`. Then run "
        "`pulumi up` again.",
        tuple(each.id for each in found),
    )


def late(entry: Entry, ids: Iterable[str]) -> str:
    """Machines that appeared too late to come from a POST without an answer."""
    return (
        f"An earlier create for {_name(entry)} got no answer, and no machine appeared. These have "
        f"appeared long after it, so they are probably somebody else's: {', '.join(ids)}. A new "
        "machine is made. `pulumi-fal audit` tells which machines no stack has."
    )


def candidates(
    entry: Entry, instances: Iterable[Instance], known: Container[str]
) -> list[Instance]:
    """The machines that an unanswered POST may have made; `known` are those known to be others'."""
    return [
        each
        for each in instances
        if each.id not in known
        and each.id not in entry.before
        and each.may_be_of(entry.instance_type)
        and entry.sector in (None, each.sector or entry.sector)
    ]


def unseen(entry: Entry, error: FalError) -> UnresolvedCreateError:
    """A create whose machine can't be looked at, or looked for."""
    if entry.instance_id is None:
        return UnresolvedCreateError(
            f"{_happened(entry)} Which machines there are now can't be told: {_sentence(error)} "
            "Run `pulumi up` again: it looks once more before it makes a machine."
        )
    return UnresolvedCreateError(
        f"An earlier create for {_name(entry)} made {entry.instance_id} ({entry.instance_type}). "
        f"Whether it still runs and bills can't be told: {_sentence(error)} Run `pulumi up` again: "
        "it looks for that machine before it makes another.",
        (entry.instance_id,),
    )


def under_way(origin: Origin) -> str:
    """A create that another process works on."""
    return (
        f"An earlier create for resource {origin.name!r} is still under way, in a process that its "
        "`pulumi` has left behind or that another `pulumi` runs. Waiting for it to finish."
    )


def stopped(entry: Entry, why: str) -> UnresolvedCreateError:
    """A machine that a create can neither take up nor pass by."""
    urn = shlex.quote(entry.origin.urn)
    return UnresolvedCreateError(
        f"{_made(entry)}; {why}. Nothing more is made for this resource until that is settled. To "
        f"have it: `pulumi-fal pending adopt {urn} {entry.instance_id or 'ID'}`. To be rid of it: "
        f"delete it, then `pulumi-fal pending forget {urn}`, which is also what to run if it is "
        "not this resource's. Then run `pulumi up` again.",
        _ids(entry),
    )


def of_another_account(entry: Entry, account: str) -> UnresolvedCreateError:
    """A create with the key of another account than `account`, which can't see its machine."""
    return UnresolvedCreateError(
        f"{_made(entry)}; it was made with the key of another account ({entry.account}) than is "
        f"set now ({account}), which does not see it. Nothing more is made for this resource until "
        "that is settled. Set a key of that account (`pulumi-fal doctor` prints the account of the "
        "key that is set), then run `pulumi up` again. If its machine is gone, or of no use and "
        f"deleted: `pulumi-fal pending forget {shlex.quote(entry.origin.urn)}`.",
        _ids(entry),
    )


def uncertain(entry: Entry, origin: Origin) -> UnresolvedCreateError:
    """A create that may have been another stack's, to whom its record must not be lost.

    `origin`: the resource that a machine is to be made for now.
    """
    if not origin.is_certain:
        way_out = (
            "Set PULUMI_BACKEND_URL to the full URL of this stack's backend, then run `pulumi up` "
            "again."
        )
    else:
        urn = shlex.quote(entry.origin.urn)
        where = f"--backend {shlex.quote(origin.backend)} --organization {origin.organization}"
        way_out = (
            "If it was made for this one: `pulumi-fal pending adopt "
            f"{urn} {entry.instance_id or 'ID'} {where}`. If it is of no use: delete it. If it was "
            f"not made for this one: `pulumi-fal pending forget {urn}`. Then run `pulumi up` again."
        )
    return UnresolvedCreateError(
        f"{_made(entry)}; it can't be told whether that was in this stack. Nothing more is made "
        f"for this resource until it can. {way_out}",
        _ids(entry),
    )


def renamed(
    entry: Entry, origin: Origin, left: Iterable[Instance], *, is_gone: bool
) -> UnresolvedCreateError:
    """A create of a stack that may be this one under its earlier name.

    `left`: what it may have left. `is_gone`: whether that stack is no more; else it isn't known.
    """
    found = list(left)
    urn, now = shlex.quote(entry.origin.urn), shlex.quote(origin.urn)
    what = "is no more: it was renamed, or removed" if is_gone else "may have been renamed"
    candidates = " " if entry.instance_id else f" Any of these may be it:\n{_lines(found)}"
    return UnresolvedCreateError(
        f"{_made(entry)}. It was made for the stack {entry.origin.stack} of the project "
        f"{entry.origin.project}, which {what}.{candidates}"
        "Nothing is made for this resource until that is settled. If one is this resource's: "
        f"`pulumi-fal pending adopt {urn} {entry.instance_id or 'ID'} --for {now}`. If one is of "
        f"no use: delete it. If none is this resource's: `pulumi-fal pending forget {urn}`. Then "
        "run `pulumi up` again.",
        tuple(each.id for each in found),
    )


def review(
    journal: Journal, of: Origin, ids_in_state: Callable[[Origin], frozenset[str] | None]
) -> Iterator[str]:
    """Drop the entries of a stack whose machines are in state; say what is left, one by one.

    `of` is any resource of the stack. Creates that are under way are passed by.
    """
    asked: dict[Origin, frozenset[str] | None] = {}
    for entry in journal.entries():
        if isinstance(entry, JournalError):
            yield str(entry)
            continue
        place = replace(entry.origin, urn=of.urn)
        if (entry.origin.stack, entry.origin.project) != (of.stack, of.project):
            continue
        if not place.may_be(of) or journal.is_locked(entry.origin):
            continue
        if entry.instance_id is not None:
            if place not in asked:
                asked[place] = ids_in_state(place)
            ids = asked[place]
            if ids is None and entry.phase == RETURNED:
                continue  # most likely all is well; a create would look more closely
            if entry.instance_id in (ids or ()):
                if entry.seen:
                    journal.drop(entry)
                continue
        yield _reminder(entry)


def _reminder(entry: Entry) -> str:
    if entry.instance_id is None:
        return (
            f"An earlier create for {_name(entry)} ended without an answer, so a machine may run "
            "that is not in state. `pulumi up` looks for it, and `pulumi destroy` does not delete "
            "it. `pulumi-fal pending ls` says more."
        )
    return (
        f"Machine {entry.instance_id} ({entry.instance_type}) was made for {_name(entry)}, is not "
        "in state, and may still run and bill. `pulumi up` goes on with it if the resource is in "
        "the program; `pulumi destroy` does not delete it. `pulumi-fal pending ls` says more."
    )


def _happened(entry: Entry) -> str:
    what = entry.problem or "the process ended before the answer came."
    return f"A create for {_name(entry)} may have made a machine: {what}"


def _sentence(error: FalError) -> str:
    return f"{error}".rstrip(".") + "."


def _lines(machines: Iterable[Instance]) -> str:
    return "".join(
        f"  {each.id} ({each.instance_type}, {each.status}, {each.ip or 'no ip'})\n"
        for each in machines
    )


def _made(entry: Entry) -> str:
    if entry.instance_id:
        made = f"made {entry.instance_id} ({entry.instance_type}), and it"
    else:
        made = f"ended without an answer, and a machine of type {entry.instance_type}"
    return f"An earlier create for {_name(entry)} {made} may still run and bill"


def _ids(entry: Entry) -> tuple[str, ...]:
    return (entry.instance_id,) if entry.instance_id else ()


def _name(entry: Entry) -> str:
    return f"resource {entry.origin.name!r}"
