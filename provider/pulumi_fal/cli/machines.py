"""`pulumi-fal ls` and `get` show the machines that the API lists, and whose they are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType

import click
from rich.text import Text

from pulumi_fal import clock
from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import Settings
from pulumi_fal.cli import show
from pulumi_fal.cli.context import Context, pass_context
from pulumi_fal.cli.evidence import MOST_NAMED, STACKS_SECONDS, Reader, ages, machines_json
from pulumi_fal.cli.names import find
from pulumi_fal.machines.costs import Costs
from pulumi_fal.machines.whose import Claim, Whose

_NOT_LISTED = """
These are in stacks, but the API does not list them to this key. They are gone, or of another
account or endpoint, which `pulumi-fal audit` tells apart:"""


@click.command("ls")
@show.json_option
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
def list_(context: Context, as_json: bool, with_age: bool, no_stacks: bool) -> None:
    """List the account's machines, and whose each is.

    For that, all stacks of the backend that `pulumi` uses here are read. Machines that a stack has
    and the API does not list are named as well.
    """
    if no_stacks and with_age:
        raise click.UsageError("Stacks have the ages: leave out --no-stacks.")
    instances = context.client().list_instances()
    if no_stacks:
        instances, costs = _sorted(instances), Costs(context.settings.prices)
        if as_json:
            show.print_json([{**asdict(one), **costs.as_json(one)} for one in instances])
        else:
            _print(instances, context.settings, costs)
        return
    note = "; --no-stacks leaves this out"
    evidence = Reader(context, seconds=STACKS_SECONDS, note=note).read(instances)
    rows, known = sorted(evidence.whose(instances), key=_place), ages(evidence)
    instances, costs = [instance for instance, *_ in rows], Costs(context.settings.prices, known)
    show.print_unread(evidence.reasons, err=True, most=MOST_NAMED)
    if as_json:
        show.print_json(machines_json(evidence, rows, costs))
        return
    columns = {
        "STACK": [_stack(whose, claim) for _, whose, claim in rows],
        "RESOURCE": [_resource(claim) for *_, claim in rows],
    }
    max_ages = evidence.max_ages
    limits = [max_ages.get(instance.id, math.inf) for instance in instances]
    is_limited = any(map(math.isfinite, limits))
    if with_age or is_limited:
        columns["AGE"] = [
            clock.shown_duration(known[instance.id]) if instance.id in known else ""
            for instance in instances
        ]
    if is_limited:
        columns["MAX AGE"] = [
            "" if math.isinf(limit) else clock.shown_duration(limit) for limit in limits
        ]
    _print(instances, context.settings, costs, columns)
    ids = {instance.id for instance in instances}
    if missing := [claim for claim in evidence.held if claim.id not in ids]:
        show.print_lines(_NOT_LISTED)
        show.print_table(
            ("MACHINE", "STACK", "RESOURCE"),
            [(claim.id, claim.stack, claim.name) for claim in missing],
        )


def _place(row: tuple[Instance, Whose, Claim | None]) -> tuple[object, ...]:
    """Sort machines by stack and name, node-2 before node-10, and those of no stack at the end."""
    instance, whose, claim = row
    if claim is None:
        return True, "", [], instance.id
    parts = re.split(r"(\d+)", claim.name)
    name = [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
    return whose is not Whose.STACK, claim.stack, name, instance.id


def _stack(whose: Whose, claim: Claim | None) -> str:
    if claim is None:
        return whose.value
    return claim.stack if whose is Whose.STACK else f"{whose.value}: {claim.stack}"


def _resource(claim: Claim | None) -> str:
    """Return the name of the resource that has a machine, or may have it."""
    if claim is None:
        return ""
    return claim.name if claim.is_certain else f"perhaps {claim.name}"


@click.command()
@click.argument("machine", metavar="MACHINE")
@show.json_option
@pass_context
def get(context: Context, machine: str, as_json: bool) -> None:
    """Show one machine, and how to log in.

    MACHINE is an id, or a name as `ls` shows it, also as STACK/NAME.
    """
    reader = Reader(context, seconds=STACKS_SECONDS)
    instance = find(context, [machine], reader)[machine]
    costs = Costs(context.settings.prices)
    if costs.prices:  # only stacks know the age, and reading them takes long
        evidence = reader.read([instance])
        if machine == instance.id:  # with a name, that has been said
            show.print_unread(evidence.reasons, err=True, most=MOST_NAMED)
        costs = Costs(costs.prices, ages(evidence))
    if as_json:
        show.print_json({**asdict(instance), **costs.as_json(instance)})
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
    fields |= dict(zip(map(str.lower, costs.columns), costs.cells(instance), strict=True))
    show.print_record(instance.id, fields)


def _sorted(instances: Sequence[Instance]) -> list[Instance]:
    """Sort the machines by type, sector and id, since the API guarantees no order."""
    return sorted(
        instances, key=lambda machine: (machine.instance_type, machine.sector or "", machine.id)
    )


def _print(
    instances: Sequence[Instance],
    settings: Settings,
    costs: Costs,
    more: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Print a table and the sums. `more` has further columns, each a cell for every machine."""
    if not instances:
        show.print_lines(
            f"There are no machines.\nThe key is from {settings.key_source}, for account "
            f"{settings.account} at {settings.endpoint}."
        )
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
    for number, name in enumerate(costs.columns):
        cells[name] = [costs.cells(instance)[number] for instance in instances]
    show.print_table(list(cells), zip(*cells.values(), strict=True))
    if sums := costs.in_words(instances):
        show.print_lines(sums)
