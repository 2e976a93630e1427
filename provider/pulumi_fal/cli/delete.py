"""`pulumi-fal delete` deletes machines that no stack and no pending create has."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from concurrent import futures

import click

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import show
from pulumi_fal.cli.claims import gather_readable
from pulumi_fal.cli.context import Context, pass_context
from pulumi_fal.cli.objections import Objection, objections
from pulumi_fal.errors import FalError, Interrupted, JournalError, NotFoundError, StillThereError
from pulumi_fal.native.threads import ThreadPerCall
from pulumi_fal.resource.operations import DELETE_TIMEOUT

_STOPPING_SECONDS = 15.0
"""How long Ctrl-C waits for requests that are under way."""


@click.command()
@click.argument(
    "ids", metavar="ID...", nargs=-1, required=True, callback=lambda ctx, param, ids: _checked(ids)
)
@click.option(
    "--force",
    is_flag=True,
    help="Delete a machine even if a stack or a pending create has it, or if that is not known.",
)
@show.yes_option
@pass_context
def delete(context: Context, ids: tuple[str, ...], force: bool, yes: bool) -> None:
    """Delete machines that no stack has.

    The command waits until they are gone. Before, it reads all stacks of the backend that `pulumi`
    uses here. Nothing is deleted if the API does not know one of the machines, if a stack or a
    pending create has one, or if a stack can't be read. --force overrides all of these but the
    first.
    """
    instances = _known(context, ids)
    claims = gather_readable(context)
    found = objections(context, claims, ids, instances.values())
    refused = [one for one in found if yes or not one.is_question]
    if refused and not force:
        raise click.ClickException(_refusal(refused, claims.unreadable))
    if not yes:
        _ask([instances[id_] for id_ in ids], found)
    left = _delete_all(context, ids)
    _drop_records(context, [id_ for id_ in ids if id_ not in left])
    if left:
        reasons = "".join(f"\n  {why}" for why in left.values())
        raise click.ClickException(
            f"{_machines(len(left))} may still run and bill:{reasons}\nTo continue, run:\n"
            f"  pulumi-fal delete {shlex.join(left)}{' --force' if force else ''}"
        )
    for objection in found:
        show.print_lines(objection.then)


def _checked(ids: tuple[str, ...]) -> tuple[str, ...]:
    if not all(id_.strip() for id_ in ids):
        raise click.BadParameter("an id is empty. Is a variable that should have it not set?")
    twice = [id_ for id_, count in Counter(ids).items() if count > 1]
    if twice:
        raise click.BadParameter(f"{', '.join(twice)} is given more than once.")
    return ids


def _known(context: Context, ids: Sequence[str]) -> dict[str, Instance]:
    """Return all machines that the API knows, by their ids.

    Raises ClickException if one of the given is not among them.
    """
    client = context.client()
    instances = {instance.id: instance for instance in client.list_instances()}
    unknown = []
    for id_ in ids:
        if id_ not in instances:  # a list may lag behind
            try:
                instances[id_] = client.get_instance(id_)
            except NotFoundError:
                unknown.append(id_)
    if unknown:
        raise click.ClickException(
            f"Nothing was deleted, because the API does not know {', '.join(unknown)}. `pulumi-fal "
            "ls` lists the machines of the account, and `pulumi-fal doctor` prints the account of "
            "the key that is set."
        )
    return instances


def _refusal(refused: Sequence[Objection], unreadable: dict[str, str]) -> str:
    reasons = "".join(f"\n  Machine {objection.id} {objection.why}." for objection in refused)
    unread = "".join(f"\n  Unreadable: {what}: {why}" for what, why in unreadable.items())
    return (
        f"Nothing was deleted, because not all of these machines are forgotten:{reasons}{unread}\n"
        "To end a machine of a stack, take it out of its program and run `pulumi up`. To delete "
        "the machines all the same, add --force; without --yes, the command then says what "
        "follows, and asks."
    )


def _ask(instances: Sequence[Instance], found: Sequence[Objection]) -> None:
    by_id = {objection.id: objection for objection in found}
    show.print_lines("These machines will be deleted, with everything on their disks:")
    for instance in instances:
        show.print_lines(f"  {show.machine(instance)}")
        if instance.id in by_id:
            objection = by_id[instance.id]
            show.print_lines(f"    It {objection.why}.\n    {objection.then}")
    click.confirm(f"Delete {_machines(len(instances))}?", abort=True)


def _delete_all(context: Context, ids: Sequence[str]) -> dict[str, str]:
    """Delete the machines at the same time, with one shared poll, and report each that is gone.

    Returns the ids of those that may still exist, each with the reason in a sentence.
    """
    delete_one, threads = context.machines.lifecycle.delete, ThreadPerCall()
    calls = {threads.submit(delete_one, id_, DELETE_TIMEOUT): id_ for id_ in ids}
    left = {id_: f"The delete of machine {id_} was interrupted." for id_ in ids}

    def report(call: futures.Future[None]) -> None:
        id_, error = calls[call], call.exception()
        if error is None:
            del left[id_]
            show.print_lines(f"Machine {id_} is gone.")
        elif isinstance(error, StillThereError):
            left[id_] = error.happened
        elif not isinstance(error, FalError):
            raise error
        elif not isinstance(error, Interrupted):
            left[id_] = str(error)

    reported = set()
    try:
        for call in futures.as_completed(calls):
            reported.add(call)
            report(call)
    except KeyboardInterrupt:
        context.clock.interrupt()
        ended, _ = futures.wait(calls, _STOPPING_SECONDS)
        for call in ended - reported:
            report(call)
    return left


def _drop_records(context: Context, ids: Sequence[str]) -> None:
    """Drop the records of the creates that made these machines, which are gone."""
    try:
        entries = context.journal.readable()
    except JournalError:
        return  # it was among what could not be read, and --force was given
    for entry in entries:
        if entry.instance_id in ids:
            context.journal.exchange(entry, None)


def _machines(count: int) -> str:
    return f"{count} machine{'' if count == 1 else 's'}"
