"""Reasons not to delete a machine: a stack or a pending create has it, or may have it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from pulumi_fal.api.models import Instance
from pulumi_fal.cli.claims import Claim, Claims, Whose
from pulumi_fal.cli.context import Context


@dataclass(frozen=True)
class Objection:
    """A reason not to delete a machine."""

    id: str
    why: str
    """The reason, as what follows the machine's name in a sentence."""
    then: str
    """What happens if the machine is deleted all the same, in full sentences."""
    is_question: bool = False
    """Whether it is enough that a person confirms the delete."""


def objections(
    context: Context, claims: Claims, ids: Container[str], instances: Iterable[Instance]
) -> list[Objection]:
    """Return the reasons not to delete the machines with these ids: none for forgotten ones.

    `instances` are all machines of the account, because a create without an answer may have made
    any of them.
    """
    return [
        _objection(context, claims, instance.id, whose, claim)
        for instance, whose, claim in claims.whose(instances)
        if instance.id in ids and whose is not Whose.FORGOTTEN
    ]


def _objection(
    context: Context, claims: Claims, id_: str, whose: Whose, claim: Claim | None
) -> Objection:
    if claim is None:
        return Objection(
            id_,
            "may be in a stack or a record that can't be read",
            f"A stack that has {id_} drops it from state at the next `pulumi refresh`, and makes "
            "a new machine at the next `pulumi up`.",
        )
    resource = f"{claim.name!r} of {claim.stack}"
    if whose is Whose.STACK:
        holders = {held.stack: held for held in claims.held if held.id == id_}.values()
        names = " and ".join(f"{held.stack} ({held.urn})" for held in holders)
        return Objection(id_, f"is in the state of {names}", _dropped(id_, holders))
    if any(entry.instance_id == id_ for entry in claims.doubtful):
        why = f"was made for {resource}, and whether that has it can't be read"
        return Objection(id_, why, _dropped(id_, [claim]))
    creates = [entry for entry in claims.pending if entry.origin.urn == claim.urn]
    is_running = any(context.journal.is_locked(entry.origin) for entry in creates)
    state = ", which is in progress in another process" if is_running else ""
    is_stateless = any(entry.origin.is_stateless for entry in creates)
    if whose is Whose.PENDING:
        then = (
            f", and the next `pulumi up` of {claim.stack} makes a new machine for {claim.name!r} "
            "if the program still has it"
        )
        return Objection(
            id_,
            f"was made by the pending create of {resource}{state}",
            f"The record of that create is dropped{'' if is_stateless else then}.",
        )
    return Objection(
        id_,
        f"may have been made by the create of {resource}{state or ', which got no answer'}",
        "The record of that create stays until `pulumi-fal pending forget` removes it."
        if is_stateless
        else f"If {claim.name!r} has no other machine, the next `pulumi up` of {claim.stack} makes "
        "a new one.",
        is_question=not is_running and not claims.unreadable,
    )


def _dropped(id_: str, claims: Iterable[Claim]) -> str:
    return " ".join(
        f"The next `pulumi refresh` of {claim.stack} drops {id_} from state, and the next `pulumi "
        f"up` makes a new machine for {claim.name!r} if the program still has it."
        for claim in claims
    )
