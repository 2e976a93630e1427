"""What `pulumi-fal pending adopt` needs to know of the stack, and which machines it refuses."""

from __future__ import annotations

import shlex
from dataclasses import replace

import click

from pulumi_fal.cli import show
from pulumi_fal.cli.context import Context
from pulumi_fal.cli.entries import name_of
from pulumi_fal.errors import NotFoundError
from pulumi_fal.machines.decision import made_at_another_time
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.stacks.cache import in_words
from pulumi_fal.stacks.origin import ORGANIZATION_VARIABLE, Origin
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN, is_ours


def completed(context: Context, origin: Origin, backend: str, organization: str) -> Origin:
    """Return the origin with the given backend and organization where the record lacks them.

    If only one organization has a stack of that name, it need not be given. Raises ClickException
    if one is still missing, because `pulumi up` would not resume the create.
    """
    completed = replace(
        origin,
        backend=origin.backend or backend,
        organization=origin.organization or organization,
    )
    possible = context.stacks.possible(completed)
    if len(possible) == 1:
        return possible[0]
    if completed.unknown:
        options = " and ".join(f"--{name}" for name in completed.unknown)
        lacks = " and the ".join(completed.unknown)
        raise click.ClickException(
            f"The record of this create lacks the {lacks} of its stack, which "
            f"`pulumi up` needs to resume it. Add {options}."
        )
    return completed


def warn_of_namesakes(context: Context, origin: Origin) -> None:
    """Name the setting without which the native plugin can't know the stack's organization.

    The Python package needs none for a create, because the program tells the organization.
    """
    if not is_ours(origin.urn, (NATIVE_TYPE_TOKEN,)):
        return
    namesakes = context.stacks.possible(replace(origin, organization=""))
    if len(namesakes) > 1:
        names = ", ".join(stack.organization for stack in namesakes)
        show.print_lines(
            f"Several organizations have a stack of that name ({names}), so run it with "
            f"{ORGANIZATION_VARIABLE}={origin.organization} in the environment."
        )


def refuse_wrong_machine(context: Context, entry: Entry, origin: Origin, instance_id: str) -> None:
    """Raise ClickException for a machine that this create can't have made, or that is assigned."""
    refused = f"Machine {instance_id} can't be adopted for {name_of(entry)}: "
    if entry.phase not in (Phase.REQUESTED, Phase.ADOPTED) and entry.instance_id != instance_id:
        raise click.ClickException(f"{refused}its create made {entry.instance_id}.")
    for other in context.journal.readable():
        if other != entry and other.instance_id == instance_id:
            raise click.ClickException(f"{refused}it is pending for {other.origin.urn}.")
    if instance_id in entry.before:
        raise click.ClickException(
            f"{refused}it existed before this create. Import it instead, if it should be in a "
            "stack."
        )
    if made_at_another_time(entry, instance_id, context.journal.readable()):
        raise click.ClickException(
            f"{refused}it was made long before or after this create, as the records of other "
            "creates show. Import it instead, if it should be in a stack."
        )
    try:
        machine = context.client().get_instance(instance_id)
    except NotFoundError as error:
        _refuse_another_account(context, entry, refused)
        raise click.ClickException(f"{refused}there is no such machine. ({error})") from None
    for what, requested, actual in (
        ("type", entry.instance_type, machine.instance_type),
        ("sector", entry.requested.sector, machine.sector),
    ):
        if requested and actual and requested != actual:
            raise click.ClickException(
                f"{refused}its {what} is {actual}, but {requested} was requested."
            )
    if instance_id in (context.stacks.ids(origin) or ()):
        raise click.ClickException(
            f"{refused}it is already in the state of its stack. If this create left nothing else, "
            f"remove its record:\n  pulumi-fal pending forget {shlex.quote(entry.origin.urn)}"
        )
    others = context.stacks.elsewhere(origin)
    if instance_id in others.ids:
        raise click.ClickException(
            f"{refused}it is in the state of the stack {others.ids[instance_id]}. If both stacks "
            "had it, destroying one would delete the machine of the other."
        )
    if others.unread:
        lines = "".join(f"\n  {line}" for line in in_words(others.unread))
        show.print_lines(f"These stacks could not be read, and may have the machine:{lines}")


def _refuse_another_account(context: Context, entry: Entry, refused: str) -> None:
    """Raise ClickException if the create used another account, whose machines are not seen here."""
    settings = context.settings
    if entry.account in ("", settings.account):
        return
    where = f" at {entry.endpoint}" if entry.endpoint else ""
    raise click.ClickException(
        f"{refused}its create used account {entry.account}{where}, and the key that is set now "
        f"(account {settings.account} at {settings.endpoint}, from {settings.key_source}) does not "
        "see the machine. Run this command again with FAL_ADMIN_API_KEY set to a key of that "
        "account, and FAL_COMPUTE_ENDPOINT to its endpoint. If the program declares a provider for "
        "the resource, that key is its apiKey."
    )
