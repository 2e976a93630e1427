"""Messages about machines that may exist outside state, and how to resolve each."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pulumi_fal.api.models import Instance
from pulumi_fal.errors import FalError, UnresolvedCreateError
from pulumi_fal.machines.entry import Entry
from pulumi_fal.stack import Origin

NOTHING: Mapping[str, str] = MappingProxyType({})


def unanswered(
    entry: Entry, candidates: Iterable[Instance], unread: Mapping[str, str] = NOTHING
) -> UnresolvedCreateError:
    """A POST without a usable answer, once its machine had time to appear.

    `unread`: stacks that may have a candidate, but could not be read, with the reason.
    """
    found = list(candidates)
    if not found:
        return UnresolvedCreateError(
            f"{_happened(entry)} None of type {entry.instance_type} has appeared since, so it most "
            "likely did not.",
            "It is safe to run `pulumi up` again: it looks once more first.",
        )
    reasons = "".join(f"  {name}: {why}\n" for name, why in unread.items())
    may_have = f"These may have them, and could not be read:\n{reasons}" if unread else ""
    return UnresolvedCreateError(
        f"{_happened(entry)}\nSince then these have appeared; any may be this resource's, or "
        f"somebody else's:\n{_lines(found)}{may_have}"
        "Nothing more is made for this resource until that is settled.",
        _choose(entry, found),
        _ids(found),
    )


def late(entry: Entry, found: Iterable[Instance]) -> str:
    """Machines that appeared too late to come from a POST without an answer."""
    return (
        f"An earlier create for {_name(entry)} got no answer, and no machine appeared. These have "
        "appeared long after it, so they are probably somebody else's: "
        f"{', '.join(_ids(found))}. A new machine is made. `pulumi-fal audit` tells which machines "
        "no stack has."
    )


def unseen(entry: Entry, error: FalError) -> UnresolvedCreateError:
    """The API can't be asked about a create's machine, or about which machines there are."""
    if entry.instance_id is None:
        return UnresolvedCreateError(
            f"{_happened(entry)} Which machines there are now can't be told: {_sentence(error)}",
            "Run `pulumi up` again: it looks once more before it makes a machine.",
        )
    return UnresolvedCreateError(
        f"An earlier create for {_name(entry)} made {entry.instance_id} ({entry.instance_type}). "
        f"Whether it still runs and bills can't be told: {_sentence(error)}",
        "Run `pulumi up` again: it looks for that machine before it makes another.",
        (entry.instance_id,),
    )


def under_way(origin: Origin) -> str:
    """Another process works on a create for this resource."""
    return (
        f"An earlier create for resource {origin.name!r} is still under way, in a process that its "
        "`pulumi` has left behind or that another `pulumi` runs. Waiting for it to finish."
    )


def stopped(entry: Entry, why: str) -> UnresolvedCreateError:
    """A machine that a create can neither resume nor ignore."""
    return UnresolvedCreateError(
        f"{_made(entry)}; {why}. Nothing more is made for this resource until that is settled.",
        f"To have it: {_adopt(entry)}. To be rid of it: delete it, then {_forget(entry)}, which is "
        "also what to run if it is not this resource's. Then run `pulumi up` again.",
        _known(entry),
    )


def of_another_account(entry: Entry, account: str) -> UnresolvedCreateError:
    """A create with the key of another account than `account`, which can't see its machine."""
    return UnresolvedCreateError(
        f"{_made(entry)}; it was made with the key of another account ({entry.account}) than is "
        f"set now ({account}), which does not see it. Nothing more is made for this resource until "
        "that is settled.",
        "Set a key of that account (`pulumi-fal doctor` prints the account of the key that is "
        "set), at the endpoint and the API that it was made with, then run `pulumi up` again. If "
        f"its machine is gone, or of no use and deleted: {_forget(entry)}.",
        _known(entry),
    )


def uncertain(entry: Entry, origin: Origin) -> UnresolvedCreateError:
    """A create that may have been another stack's, which must not lose its record.

    `origin`: the resource that a machine is requested for now.
    """
    if not origin.is_certain:
        what_to_do = (
            "Set PULUMI_BACKEND_URL to the full URL of this stack's backend, then run `pulumi up` "
            "again."
        )
    else:
        where = f" --backend {shlex.quote(origin.backend)} --organization {origin.organization}"
        what_to_do = (
            f"If it was made for this one: {_adopt(entry, where)}. If it is of no use: delete it. "
            f"If it was not made for this one: {_forget(entry)}. Then run `pulumi up` again."
        )
    return UnresolvedCreateError(
        f"{_made(entry)}; it can't be told whether that was in this stack. Nothing more is made "
        "for this resource until it can.",
        what_to_do,
        _known(entry),
    )


def renamed(
    entry: Entry, origin: Origin, left: Iterable[Instance], *, is_gone: bool
) -> UnresolvedCreateError:
    """A create of a stack that may be this one under its earlier name.

    `left`: what it may have left. `is_gone`: whether that stack no longer exists; else it isn't
    known.
    """
    found = list(left)
    what = "is no more: it was renamed, or removed" if is_gone else "may have been renamed"
    candidates = " " if entry.instance_id else f" Any of these may be it:\n{_lines(found)}"
    return UnresolvedCreateError(
        f"{_made(entry)}. It was made for the stack {entry.origin.stack} of the project "
        f"{entry.origin.project}, which {what}.{candidates}"
        "Nothing is made for this resource until that is settled.",
        _choose(entry, found, f" --for {shlex.quote(origin.urn)}"),
        _ids(found),
    )


def together(problems: Iterable[UnresolvedCreateError]) -> UnresolvedCreateError:
    """Several creates that stop one."""
    *before, last = problems
    return UnresolvedCreateError(
        "\n".join([*map(str, before), last.happened]),
        last.what_to_do,
        tuple(each for problem in (*before, last) for each in problem.candidates),
    )


def reminder(entry: Entry) -> str:
    """What a command says first of a create that an earlier one left unresolved."""
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


def _choose(entry: Entry, found: list[Instance], options: str = "") -> str:
    adopt = _adopt(entry, options, found[0].id if len(found) == 1 else "ID")
    return (
        f"If one is this resource's: {adopt}. If one is of no use: delete it. If none is this "
        f"resource's: {_forget(entry)}. Then run `pulumi up` again."
    )


def _adopt(entry: Entry, options: str = "", instance_id: str = "ID") -> str:
    urn = shlex.quote(entry.origin.urn)
    return f"`pulumi-fal pending adopt {urn} {entry.instance_id or instance_id}{options}`"


def _forget(entry: Entry) -> str:
    return f"`pulumi-fal pending forget {shlex.quote(entry.origin.urn)}`"


def _happened(entry: Entry) -> str:
    what = entry.problem or "the process ended before the answer came."
    return f"A create for {_name(entry)} may have made a machine: {what}"


def _made(entry: Entry) -> str:
    if entry.instance_id:
        made = f"made {entry.instance_id} ({entry.instance_type}), and it"
    else:
        made = f"ended without an answer, and a machine of type {entry.instance_type}"
    return f"An earlier create for {_name(entry)} {made} may still run and bill"


def _sentence(error: FalError) -> str:
    return f"{error}".rstrip(".") + "."


def _lines(machines: Iterable[Instance]) -> str:
    return "".join(
        f"  {each.id} ({each.instance_type}, {each.status}, {each.ip or 'no ip'})\n"
        for each in machines
    )


def _ids(machines: Iterable[Instance]) -> tuple[str, ...]:
    return tuple(each.id for each in machines)


def _known(entry: Entry) -> tuple[str, ...]:
    return (entry.instance_id,) if entry.instance_id else ()


def _name(entry: Entry) -> str:
    return f"resource {entry.origin.name!r}"
