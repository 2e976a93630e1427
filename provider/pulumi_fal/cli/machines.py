"""`pulumi-fal ls` and `pulumi-fal get` show the machines that the API lists."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import click
from rich.text import Text

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import ages, show
from pulumi_fal.cli.context import Context, pass_context
from pulumi_fal.errors import StackError
from pulumi_fal.stacks import state

_STACKS_SECONDS = 30.0
"""The most time that `ls --age` spends on reading stacks."""


@click.command("ls")
@show.json_option
@click.option("--watch", is_flag=True, help="Show the list again after every change, until Ctrl-C.")
@click.option(
    "--age",
    "with_age",
    is_flag=True,
    help="Show how long each machine has been running since a stack recorded it. This reads all "
    "stacks of the backend that `pulumi` uses here.",
)
@pass_context
def list_(context: Context, as_json: bool, watch: bool, with_age: bool) -> None:
    """List the account's machines."""
    if watch and as_json:
        raise click.UsageError("--watch is for people: leave out --json.")
    if watch and with_age:
        raise click.UsageError("--watch does not show ages: leave out --age.")
    client = context.client()
    if watch:
        _watch(context)
    instances = _sorted(client.list_instances())
    if not with_age:
        if as_json:
            show.print_json([asdict(instance) for instance in instances])
        else:
            _print(instances)
        return
    created, now = _created() if instances else {}, context.clock.wall()
    if as_json:
        show.print_json(
            [
                {**asdict(instance), **ages.as_json(created.get(instance.id), now)}
                for instance in instances
            ]
        )
    else:
        _print(instances, {id_: ages.age(moment, now) for id_, moment in created.items()})


def _created() -> Mapping[str, float]:
    """Return the time at which a stack recorded each machine, by the machine's id.

    Stacks that can't be read are reported on stderr and otherwise ignored.
    """
    try:
        answers = state.read_all(state.names(), seconds=_STACKS_SECONDS)
    except StackError as error:
        click.echo(f"No ages, since the stacks can't be listed: {error}", err=True)
        return {}
    records: list[tuple[str, float | None]] = []
    for name, answer in answers.items():
        if isinstance(answer, StackError):
            click.echo(f"No ages of stack {name}, which can't be read: {answer}", err=True)
        else:
            records.extend((machine.id, machine.created) for machine in answer)
    return ages.earliest(records)


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


def _print(instances: Sequence[Instance], known: Mapping[str, int] | None = None) -> None:
    """Print a table, with a column of ages if `known` has them in seconds by machine id."""
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
    if known is not None:
        columns.append("AGE")
        for instance, row in zip(instances, rows, strict=True):
            row.append(ages.in_words(known[instance.id]) if instance.id in known else "")
    show.print_table(columns, rows)
