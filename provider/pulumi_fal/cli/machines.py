"""`pulumi-fal ls` and `pulumi-fal get`: the machines as the API has them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

import click
from rich.text import Text

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import show
from pulumi_fal.cli.context import Context, pass_context


@click.command("ls")
@show.json_option
@click.option("--watch", is_flag=True, help="Show them again with every change, until Ctrl-C.")
@pass_context
def list_(context: Context, as_json: bool, watch: bool) -> None:
    """List the account's machines."""
    if watch and as_json:
        raise click.UsageError("--watch is for people: leave out --json.")
    client = context.client()
    if watch:
        _watch(context)
    instances = _sorted(client.list_instances())
    if as_json:
        show.print_json([asdict(each) for each in instances])
    else:
        _print(instances)


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
    show.print_record(instance.id, fields)


def _watch(context: Context) -> None:
    """On a terminal the last list stays in sight; elsewhere there is a new one with every change.

    It ends with Ctrl-C, or with an error.
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
    """The API promises no order."""
    return sorted(instances, key=lambda each: (each.instance_type, each.sector or "", each.id))


def _print(instances: Sequence[Instance]) -> None:
    if not instances:
        show.print_lines("There are no machines.")
        return
    show.print_table(
        ("ID", "TYPE", "SECTOR", "IP", "STATUS"),
        (
            (each.id, each.instance_type, each.sector or "", each.ip or "", show.status(each))
            for each in instances
        ),
    )
