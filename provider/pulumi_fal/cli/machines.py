"""`pulumi-fal ls` and `pulumi-fal get` show the machines that the API lists, and whose they are."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType

import click
from rich.text import Text

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import show
from pulumi_fal.cli.context import Context, pass_context
from pulumi_fal.cli.evidence import Reader, machines_json, recorded
from pulumi_fal.machines.whose import Claim, Whose
from pulumi_fal.resource import durations

_STACKS_SECONDS = 30.0
"""The most time that `ls` spends on reading stacks."""
_NAMED = 3
"""How many of the stacks that can't be read are named."""


@click.command("ls")
@show.json_option
@click.option("--watch", is_flag=True, help="Show the list again after every change, until Ctrl-C.")
@click.option(
    "--age",
    "with_age",
    is_flag=True,
    help="Show how long each machine has been running since a stack recorded it.",
)
@click.option(
    "--no-stacks",
    is_flag=True,
    help="Don't read the stacks, which is faster. Whose the machines are is then not shown.",
)
@pass_context
def list_(context: Context, as_json: bool, watch: bool, with_age: bool, no_stacks: bool) -> None:
    """List the account's machines, and whose each is.

    For that, all stacks of the backend that `pulumi` uses here are read.
    """
    if watch and as_json:
        raise click.UsageError("--watch is for people: leave out --json.")
    if watch and with_age:
        raise click.UsageError("--watch does not show ages: leave out --age.")
    if no_stacks and with_age:
        raise click.UsageError("Stacks have the ages: leave out --no-stacks.")
    if watch:
        _watch(context)
    instances = _sorted(context.client().list_instances())
    if no_stacks or not instances:
        if as_json:
            show.print_json([asdict(instance) for instance in instances])
        else:
            _print(instances)
        return
    note = "; --no-stacks leaves this out"
    evidence = Reader(context, seconds=_STACKS_SECONDS, note=note).read(instances)
    rows, created = evidence.whose(instances), recorded(evidence)
    show.print_unread(evidence.reasons, err=True, most=_NAMED)
    if as_json:
        show.print_json(machines_json(evidence, rows))
        return
    columns = {
        "STACK": [_stack(whose, claim) for _, whose, claim in rows],
        "RESOURCE": [_resource(claim) for *_, claim in rows],
    }
    if with_age:
        moments = (created.get(instance.id) for instance in instances)
        columns["AGE"] = [
            "" if moment is None else durations.shown(evidence.now - moment) for moment in moments
        ]
    _print(instances, columns)


def _stack(whose: Whose, claim: Claim | None) -> str:
    if claim is None:
        return whose.value
    return claim.stack if whose is Whose.STACK else f"{whose.value}: {claim.stack}"


def _resource(claim: Claim | None) -> str:
    """Return the name of the resource that has a machine, or may have it."""
    if claim is None:
        return ""
    is_certain = claim.entry is None or claim.entry.instance_id
    return claim.name if is_certain else f"perhaps {claim.name}"


@click.command()
@click.argument("instance_id", metavar="ID")
@show.json_option
@pass_context
def get(context: Context, instance_id: str, as_json: bool) -> None:
    """Show one machine, and how to log in."""
    instance = context.client().get_instance(instance_id)
    if as_json:
        show.print_json(asdict(instance))
        return
    fields: dict[str, str | Text] = {
        "type": instance.instance_type,
        "sector": instance.sector or "",
        "ip": instance.ip or "",
        "status": show.status(instance),
        "login": f"ssh ubuntu@{instance.ip}" if instance.is_ready else "",
    }
    if instance.region:
        fields |= {"region": instance.region, "creator": instance.creator_user_nickname or ""}
    show.print_record(instance.id, fields)


def _watch(context: Context) -> None:
    """Print the machines after every change, until Ctrl-C or an error.

    A terminal shows only the latest list. Other outputs get one list after the other.
    """
    client, before = context.client(), None
    try:
        while True:
            instances = _sorted(client.list_instances())
            if instances != before:
                if sys.stdout.isatty():
                    click.clear()
                elif before is not None:
                    click.echo()
                _print(instances)
            before = instances
            context.clock.sleep(context.settings.poll_interval)
    except KeyboardInterrupt:
        sys.exit(0)


def _sorted(instances: Sequence[Instance]) -> list[Instance]:
    """Sort the machines by type, sector and id, since the API guarantees no order."""
    return sorted(
        instances, key=lambda machine: (machine.instance_type, machine.sector or "", machine.id)
    )


def _print(
    instances: Sequence[Instance], more: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> None:
    """Print a table. `more` has further columns, each with a cell for every machine."""
    if not instances:
        show.print_lines("There are no machines.")
        return
    cells: dict[str, Sequence[str | Text]] = {
        "ID": [instance.id for instance in instances],
        "TYPE": [instance.instance_type for instance in instances],
        "SECTOR": [instance.sector or "" for instance in instances],
        "IP": [instance.ip or "" for instance in instances],
        "STATUS": [show.status(instance) for instance in instances],
    }
    if any(instance.region for instance in instances):  # the legacy API returns no regions
        cells["REGION"] = [instance.region or "" for instance in instances]
        cells["CREATOR"] = [instance.creator_user_nickname or "" for instance in instances]
    cells |= more
    show.print_table(list(cells), zip(*cells.values(), strict=True))
