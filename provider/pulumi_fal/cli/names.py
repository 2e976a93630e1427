"""Finds the machines that a command is given, by their ids or by their names as `ls` shows them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import click

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import show
from pulumi_fal.cli.context import Context
from pulumi_fal.cli.evidence import MOST_NAMED, STACKS_SECONDS, Reader
from pulumi_fal.machines.whose import Claim, Evidence


def find(
    context: Context,
    given: Sequence[str],
    reader: Reader | None = None,
    *,
    is_strict: bool = False,
    nothing: str = "",
) -> dict[str, Instance]:
    """Return the machines by what was given. Stacks are read only if that is not a machine's id.

    Raises ClickException, which begins with `nothing`, unless everything is one machine. With
    `is_strict`, no other machine of that name may be in what can't be read.
    """
    client = context.client()
    listed = {instance.id: instance for instance in client.list_instances()}
    found: dict[str, Instance | str | None] = {
        # A list may lag behind.
        text: listed.get(text) or (client.find_instance(text) if text.strip() else None)
        for text in given
    }
    if names := [text for text, machine in found.items() if machine is None]:
        evidence = (reader or Reader(context, seconds=STACKS_SECONDS)).read([*listed.values()])
        show.print_unread(evidence.reasons, err=True, most=MOST_NAMED)
        is_certain = not (is_strict and evidence.unread)
        found |= {text: _resolve(text, evidence, listed, is_certain) for text in names}
    if problems := [problem for problem in found.values() if isinstance(problem, str)]:
        raise click.ClickException(nothing + "\n".join(problems))
    return {text: machine for text, machine in found.items() if isinstance(machine, Instance)}


def _resolve(
    text: str, evidence: Evidence, listed: Mapping[str, Instance], is_certain: bool
) -> Instance | str:
    """Return the machine of that name, or why there is none or no certain one."""
    shown = [claim for *_, claim in evidence.whose(listed.values()) if claim]
    matching = {claim.id: claim for claim in (*evidence.held, *shown) if _is_meant(text, claim)}
    here = [claim for claim in matching.values() if claim.id in listed]
    if len(here) == 1 and here[0].is_certain:
        machine = listed[here[0].id]
        return machine if is_certain else _perhaps(text, machine)
    if here:
        rows = (f"\n  {_label(claim)}: {show.machine(listed[claim.id])}" for claim in here)
        return (
            f"{text!r} may be any of these machines:{''.join(sorted(rows))}\n"
            "Give its id, or STACK/NAME if only one machine has that."
        )
    if matching:
        held = "".join(f"\n  {_label(claim)}: {claim.id}" for claim in matching.values())
        return (
            f"{text!r} is in state, but the API does not list its machine to this key:{held}\n"
            "It is gone, or of another account or endpoint. To see which, run:\n"
            "  pulumi-fal audit"
        )
    near = difflib.get_close_matches(text, sorted({_ending(text, claim) for claim in shown}))
    meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    where = " in what could be read" if evidence.unread else ""
    return (
        f"The API does not know {text!r}, and no machine has that name{where}.{meant}\n"
        "To see all machines of the account and their names, run:\n"
        "  pulumi-fal ls"
    )


def _perhaps(text: str, machine: Instance) -> str:
    return (
        f"{text!r} is {show.machine(machine)}, but what could not be read may have another machine "
        "of that name. Give the machine's id."
    )


def _is_meant(text: str, claim: Claim) -> bool:
    """Whether the text is NAME or STACK/NAME, where STACK may lack parts at its beginning."""
    if text in (claim.id, claim.name):
        return True
    stack = text.removesuffix(f"/{claim.name}")
    return stack != text and f"/{claim.stack}".endswith(f"/{stack}")


def _label(claim: Claim) -> str:
    return f"{'' if claim.is_certain else 'perhaps '}{claim.stack}/{claim.name}"


def _ending(text: str, claim: Claim) -> str:
    """Return as much of STACK/NAME as the text has."""
    parts = claim.stack.split("/")
    return "/".join([*parts[max(0, len(parts) - text.count("/")) :], claim.name])
