"""`pulumi-fal ls` and `pulumi-fal get` show the machines that the API lists, and whose they are."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType

import click
from rich.text import Text

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import ages, show
from pulumi_fal.cli.claims import Claim, Claims, Whose, gather_readable
from pulumi_fal.cli.context import Context, pass_context

_STACKS_SECONDS = 30.0
"""The most time that `ls` spends on reading stacks."""
_NAMED = 3
"""How many of the stacks that can't be read are named."""

Row = tuple[Instance, Whose, Claim | None]


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
    claims = gather_readable(context, _STACKS_SECONDS, "; --no-stacks leaves this out")
    rows = claims.whose(instances)
    _report_unreadable(claims)
    created, now = claims.created if with_age else {}, context.clock.wall()
    if as_json:
        show.print_json(
            [
                {
                    **asdict(instance),
                    "whose": whose.name.lower(),
                    "stack": claim and claim.stack,
                    "resource": claim and claim.name,
                    "urn": claim and claim.urn,
                    **(ages.as_json(created.get(instance.id), now) if with_age else {}),
                }
                for instance, whose, claim in rows
            ]
        )
        return
    columns = {"STACK": _stack_cells(rows), "RESOURCE": _resource_cells(rows)}
    if with_age:
        columns["AGE"] = {id_: ages.in_words(ages.age(at, now)) for id_, at in created.items()}
    _print(instances, columns)


def _stack_cells(rows: Sequence[Row]) -> dict[str, str]:
    """Return what stands in the column STACK, by the machine's id."""
    cells = {}
    for instance, whose, claim in rows:
        if claim is None:
            cells[instance.id] = whose.value
        elif whose is Whose.STACK:
            cells[instance.id] = claim.stack
        else:
            cells[instance.id] = f"{whose.value}: {claim.stack}"
    return cells


def _resource_cells(rows: Sequence[Row]) -> dict[str, str]:
    """Return the name of the resource that has a machine, or may have it, by the machine's id."""
    return {
        instance.id: claim.name if whose is not Whose.UNKNOWN else f"perhaps {claim.name}"
        for instance, whose, claim in rows
        if claim is not None
    }


def _report_unreadable(claims: Claims) -> None:
    """Say on stderr what may have the machines that are unknown. Of many, only some are named."""
    for what, why in list(claims.unreadable.items())[:_NAMED]:
        click.echo(f"Unreadable: {what}: {why}", err=True)
    if len(claims.unreadable) > _NAMED:
        more = len(claims.unreadable) - _NAMED
        click.echo(f"Unreadable: {more} more. `pulumi-fal audit` names them all.", err=True)


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
    instances: Sequence[Instance], more: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> None:
    """Print a table. `more` has the cells of further columns, by the machine's id."""
    if not instances:
        show.print_lines("There are no machines.")
        return
    columns: list[str] = ["ID", "TYPE", "SECTOR", "IP", "STATUS"]
    rows: list[list[str | Text]] = [
        [
            instance.id,
            instance.instance_type,
            instance.sector or "",
            instance.ip or "",
            show.status(instance),
        ]
        for instance in instances
    ]
    if any(instance.region for instance in instances):  # the legacy API returns no regions
        columns += ["REGION", "CREATOR"]
        for instance, row in zip(instances, rows, strict=True):
            row += [instance.region or "", instance.creator_user_nickname or ""]
    for column, cells in more.items():
        columns.append(column)
        for instance, row in zip(instances, rows, strict=True):
            row.append(cells.get(instance.id, ""))
    show.print_table(columns, rows)
