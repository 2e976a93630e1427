"""`pulumi-fal audit` finds machines that no stack has, that are gone, or that are too old."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NoReturn

import click

from pulumi_fal.api.client import Client
from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import Settings
from pulumi_fal.cli import ages, show
from pulumi_fal.cli.claims import Claim, Whose, gather, stack_option
from pulumi_fal.cli.context import Context, pass_context
from pulumi_fal.cli.report import CANT_TELL, Report
from pulumi_fal.errors import FalError, NotFoundError
from pulumi_fal.machines.ownership import Ownership


@click.command()
@stack_option
@click.option(
    "--max-age",
    metavar="DURATION",
    callback=lambda ctx, param, text: ages.duration(text),
    help="Also find machines in stacks that have been running for longer, for example 30m, 12h or "
    "7d. The age counts from when Pulumi recorded the machine.",
)
@click.option(
    "--ids",
    "only_ids",
    is_flag=True,
    help="Print only the ids of the forgotten machines, one a line, for `pulumi-fal delete`.",
)
@show.json_option
@pass_context
def audit(
    context: Context, stacks: tuple[str, ...], max_age: int | None, only_ids: bool, as_json: bool
) -> None:
    """Find forgotten machines, and resources whose machine is gone.

    A machine is forgotten if no stack has it and no create on this computer is pending for it. It
    is listed as unknown if a stack that could not be read may own it, or if a create that got no
    answer may have made it.

    \b
    Exit codes, for CI:
      0  every machine is in a stack or pending, and every resource's machine exists
      1  a forgotten machine, a resource whose machine is gone, or a machine older than --max-age
         was found
      2  the result is uncertain: the API, a stack or the list of stacks could not be read, a
         machine was seen with another account's key, an age that --max-age needs is not known, or
         the audit itself failed
    """
    if only_ids and as_json:
        raise click.UsageError("--ids prints no JSON: leave out --json.")
    try:
        report = _look(context, stacks, max_age)
        if only_ids:
            _print_ids(report)
        elif as_json:
            show.print_json(_as_json(report))
        else:
            _print(report, context.settings)
    except FalError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted")
    except Exception as error:  # noqa: BLE001 - 1, Python's own, would say that something was found
        traceback.print_exc()
        _fail(f"{type(error).__name__}: {error}")
    sys.exit(report.exit_code)


def _fail(why: str) -> NoReturn:
    click.echo(f"Error: the audit could not be completed: {why}", err=True)
    sys.exit(CANT_TELL)


def _look(context: Context, stacks: Sequence[str], max_age: int | None) -> Report:
    client = context.client()
    instances = client.list_instances()
    claims = gather(context, stacks)
    missing = [claim for claim in claims.held if not _exists(claim.id, instances, client)]
    ownership = Ownership(context.settings, lambda: {machine.id for machine in instances})
    other = [
        claim for claim in missing if not ownership.sees(claim.account_id, lambda: claims.held)
    ]
    machines = [
        (instance, whose, claim)
        for instance, whose, claim in claims.whose(instances)
        # A machine may have been destroyed while the stacks were read.
        if whose is not Whose.FORGOTTEN or _exists(instance.id, [], client)
    ]
    gone = [claim for claim in missing if claim not in other]
    return Report(claims, machines, gone, other, context.clock.wall(), max_age)


def _exists(instance_id: str, listed: Sequence[Instance], client: Client) -> bool:
    """Whether the machine is listed, or the API returns it on request."""
    if any(machine.id == instance_id for machine in listed):
        return True
    try:
        client.get_instance(instance_id)
    except NotFoundError:
        return False
    return True


def _print(report: Report, settings: Settings) -> None:
    found = [row for row in report.machines if row[1] in (Whose.FORGOTTEN, Whose.UNKNOWN)]
    if found:
        show.print_table(
            ("MACHINE", "TYPE", "IP", "STATUS", "WHOSE"),
            (
                (
                    instance.id,
                    instance.instance_type,
                    instance.ip or "",
                    show.status(instance),
                    f"unknown: perhaps made by the pending create of {claim.urn}"
                    if claim
                    else whose.value,
                )
                for instance, whose, claim in found
            ),
        )
    if report.too_old:
        show.print_table(
            ("TOO OLD", "TYPE", "AGE", "STACK", "RESOURCE"),
            (
                (instance.id, instance.instance_type, ages.in_words(age), claim.stack, claim.urn)
                for instance, claim, age in report.too_old
            ),
        )
    if report.gone:
        show.print_table(
            ("GONE", "STACK", "RESOURCE"),
            ((claim.id, claim.stack, claim.urn) for claim in report.gone),
        )
    if report.other_account:
        show.print_table(
            ("UNSEEN", "STACK", "RESOURCE", "WHY"),
            (
                (claim.id, claim.stack, claim.urn, f"unknown: {_seen(claim, settings)}")
                for claim in report.other_account
            ),
        )
    for what, why in report.claims.unreadable.items():
        show.print_lines(f"Unreadable: {what}: {why}")
    for claim in report.ageless:
        show.print_lines(f"Age unknown: {claim.id}, in {claim.stack}: {claim.urn}")
    show.print_lines(_summary(report))


def _print_ids(report: Report) -> None:
    """Print the ids of the forgotten machines, and on stderr why there may be more."""
    for what, why in report.claims.unreadable.items():
        click.echo(f"Unreadable: {what}: {why}", err=True)
    click.echo(_counts(report), err=True)
    for instance, whose, _ in report.machines:
        if whose is Whose.FORGOTTEN:
            click.echo(instance.id)


def _seen(claim: Claim, settings: Settings) -> str:
    if claim.account_id.endpoint not in ("", settings.endpoint):
        return f"seen at another endpoint ({claim.account_id.endpoint})"
    return f"seen with another key (account {claim.account_id.account})"


def _counts(report: Report) -> str:
    words = [f"{report.counts[whose]} {whose.value}" for whose in Whose if report.counts[whose]]
    details = f" ({', '.join(words)})" if words else ""
    read, gone = len(report.claims.stacks), len(report.gone)
    return f"Machines: {len(report.machines)}{details}. Stacks read: {read}. Gone: {gone}."


def _summary(report: Report) -> str:
    counts = report.counts
    lines = [_counts(report)]
    if counts[Whose.FORGOTTEN]:
        lines.append(
            "Forgotten machines keep billing. To delete one, run:\n"
            "  pulumi-fal delete ID\n"
            "To import them into a stack, run:\n"
            "  pulumi-fal import-file --ssh-key FILE\n"
            "A machine created in the last few minutes may belong to a `pulumi up` that is still "
            "running elsewhere."
        )
    if counts[Whose.UNKNOWN]:
        lines.append(
            "A machine is listed as unknown if a stack that could not be read may own it, or if a "
            "create that got no answer may have made it."
        )
    if counts[Whose.PENDING]:
        lines.append("For details about pending machines, run `pulumi-fal pending ls`.")
    if report.max_age is not None and report.too_old:
        lines.append(
            f"Running for more than {ages.in_words(report.max_age)}: {len(report.too_old)}. To "
            "delete one, remove it from its program and run `pulumi up`."
        )
    if report.gone:
        lines.append("To remove machines that are gone from a stack's state, run `pulumi refresh`.")
    if report.other_account:
        lines.append(
            f"Unseen: {len(report.other_account)}. Only the account that a machine was seen with "
            "can show whether it exists: set the key and the endpoint of that account, and run the "
            "audit again.\n"
            "To see the account of the key that is set, run `pulumi-fal doctor`."
        )
    return "\n".join(lines)


def _as_json(report: Report) -> dict[str, Any]:
    created = report.claims.created
    return {
        "machines": [
            {
                **asdict(instance),
                "whose": whose.name.lower(),
                "stack": claim and claim.stack,
                "urn": claim and claim.urn,
                **ages.as_json(created.get(instance.id), report.now),
            }
            for instance, whose, claim in report.machines
        ],
        "too_old": [
            {"id": instance.id, "urn": claim.urn, "stack": claim.stack, "age_seconds": age}
            for instance, claim, age in report.too_old
        ],
        "gone": [{"id": claim.id, "urn": claim.urn, "stack": claim.stack} for claim in report.gone],
        "other_account": [
            {"id": claim.id, "urn": claim.urn, "stack": claim.stack, **asdict(claim.account_id)}
            for claim in report.other_account
        ],
        "stacks": report.claims.stacks,
        "unreadable": report.claims.unreadable,
    }
