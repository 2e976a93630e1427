"""`pulumi-fal audit` finds machines that no stack has, that are gone, or that are too old."""

from __future__ import annotations

import io
import math
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import click
from rich.text import Text

from pulumi_fal import clock
from pulumi_fal.api.settings import Settings
from pulumi_fal.cli import common
from pulumi_fal.cli.common import Context, Reader, pass_context, stack_option
from pulumi_fal.cli.machines import machines_json
from pulumi_fal.errors import FalError
from pulumi_fal.machines.account import shares_account
from pulumi_fal.machines.whose import ABANDONED_SECONDS, Claim, Evidence, Row, Whose
from pulumi_fal.resource.call import Costs
from pulumi_fal.stacks.cache import LIST

CLEAN, FOUND, CANT_TELL = 0, 1, 2
_LEFT = (Whose.FORGOTTEN, Whose.ABANDONED)
"""Whose the machines are that nobody will delete."""
_ADVICE = {
    Whose.FORGOTTEN: "Forgotten machines keep billing. To delete one, run:\n"
    "  pulumi-fal delete ID\n"
    "To import them into a stack, run:\n"
    "  pulumi-fal import-file --ssh-key FILE\n"
    "A machine created in the last few minutes may belong to a `pulumi up` that is still running "
    "elsewhere.",
    Whose.ABANDONED: "Abandoned machines keep billing: a create on this computer made them, nobody "
    "works on it any more, and no stack has them. To see what to do, run:\n  pulumi-fal pending ls",
    Whose.UNKNOWN: "A machine is listed as unknown if a stack that could not be read may own it, "
    "or if a create that got no answer may have made it.",
    Whose.PENDING: "For details about pending machines, run `pulumi-fal pending ls`.",
}


def _seconds(text: str | None) -> float | None:
    """Parse a duration, such as 30m, 12h, 7d or 1d12h, and return it in seconds."""
    seconds = clock.parse_duration(text) if text is not None else None
    if text is not None and seconds is None:
        raise click.BadParameter(
            f"{text!r} is not a duration. Give minutes, hours or days, for example 30m, 12h, 7d or "
            "1d12h."
        )
    return seconds


@dataclass(frozen=True)
class Report:
    """The result of an audit."""

    evidence: Evidence
    machines: list[Row]
    gone: list[Claim]
    other_account: list[Claim]
    """Resources whose machine the API doesn't know, but was seen by another account or endpoint."""
    too_old: list[tuple[Row, float]]
    """The machines in stacks that exceed their own limit or that of the audit, with that limit."""
    ageless: list[Claim]
    """The resources whose machine may exceed a limit, because its age is unknown."""
    costs: Costs

    @property
    def exit_code(self) -> int:
        counts = self.counts
        if self.gone or self.too_old or any(counts[whose] for whose in _LEFT):
            return FOUND
        unknown = self.evidence.unread or self.other_account or counts[Whose.UNKNOWN]
        return CANT_TELL if unknown or self.ageless else CLEAN

    @property
    def counts(self) -> Mapping[Whose, int]:
        return Counter(row.whose for row in self.machines)


@click.command()
@stack_option
@click.option(
    "--max-age",
    metavar="DURATION",
    callback=lambda ctx, param, text: _seconds(text),
    help="Also find machines in stacks that have been running for longer, for example 30m, 12h or "
    "7d. The age counts from when Pulumi recorded the machine, or from a pending create.",
)
@click.option(
    "--ids",
    "only_ids",
    is_flag=True,
    help="Print only the ids of the forgotten machines, one a line, for `pulumi-fal delete`.",
)
@common.json_option
@pass_context
def audit(
    context: Context, stacks: tuple[str, ...], max_age: float | None, only_ids: bool, as_json: bool
) -> None:
    """Find forgotten machines, and resources whose machine is gone.

    A machine is forgotten if no stack has it and no create on this computer is on record for it. It
    is abandoned if such a create made it, no stack has it, and nobody works on the create any more:
    its stack is gone, or it is older than ten minutes, or than --max-age. It is listed as unknown
    if a stack that could not be read may own it, or if a create that got no answer may have made
    it.

    \b
    Exit codes, for CI:
      0  every machine is in a stack or pending, and every resource's machine exists
      1  a forgotten or abandoned machine, a resource whose machine is gone, or a machine older
         than its own max_age or than --max-age was found
      2  the result is uncertain: the API, a stack or the list of stacks could not be read, a
         machine was seen with another account's key, an age that a limit needs is not known, or
         the audit itself failed
    """
    if only_ids and as_json:
        raise click.UsageError("--ids prints no JSON: leave out --json.")
    try:
        report = _look(context, stacks, max_age)
        if only_ids:
            _print_ids(report)
        elif as_json:
            common.print_json(_as_json(report))
        else:
            _print(report, context.settings)
    except FalError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted")
    except BrokenPipeError:  # as with `| head -1`
        sys.stdout = io.StringIO()  # or Python would try again at its end
        _fail("nobody reads what it prints")
    except Exception as error:  # noqa: BLE001 - 1, Python's own, would say that something was found
        traceback.print_exc()
        _fail(f"{type(error).__name__}: {error}")
    sys.exit(report.exit_code)


def _fail(why: str) -> NoReturn:
    with suppress(OSError):  # with `2>&1 | head -1`, nobody reads this either
        common.print_lines(f"Error: the audit could not be completed: {why}", err=True)
    sys.exit(CANT_TELL)


def _look(context: Context, stacks: Sequence[str], max_age: float | None) -> Report:
    client = context.client()
    instances = client.list_instances()
    evidence = Reader(context, stacks).read(instances)
    limit = ABANDONED_SECONDS if max_age is None else max_age
    machines, held = evidence.whose(instances, limit), evidence.held
    own, listed = context.settings.account_id, {instance.id for instance in instances}
    missing = [claim for claim in held if claim.id not in listed]
    if missing or any(row.whose in _LEFT for row in machines):
        # A machine may have been made or destroyed while the stacks were read.
        still = {instance.id for instance in client.list_instances()}
        machines = [row for row in machines if row.whose not in _LEFT or row.instance.id in still]
        missing = [claim for claim in missing if claim.id not in still]
    gone = [
        claim
        for claim in missing
        if shares_account(own, claim.account_id, lambda: held, lambda: listed)
    ]
    most = math.inf if max_age is None else max_age
    ids = {claim.id for claim in held}
    limits = [(row, min(row.max_age, most)) for row in machines if row.instance.id in ids]
    ageless = [row.claim for row, limit in limits if row.age is None and limit < math.inf]
    return Report(
        evidence,
        machines,
        gone,
        [claim for claim in missing if claim not in gone],
        [(row, limit) for row, limit in limits if row.exceeds(limit)],
        list(filter(None, ageless)),
        common.costs_of(context.settings, machines),
    )


def _print(report: Report, settings: Settings) -> None:
    costs = report.costs
    tables: dict[tuple[str, ...], Sequence[Sequence[str | Text]]] = {
        ("MACHINE", "TYPE", "IP", "STATUS", "WHOSE", *costs.columns): [
            [*_machine(row), *costs.cells(row.instance)]
            for row in report.machines
            if row.whose not in (Whose.STACK, Whose.PENDING)
        ],
        ("TOO OLD", *common.AGED, *costs.columns): [
            [*common.aged(row, limit), *costs.cells(row.instance)] for row, limit in report.too_old
        ],
        ("GONE", "STACK", "RESOURCE"): [
            (claim.id, claim.stack, claim.urn) for claim in report.gone
        ],
        ("UNSEEN", "STACK", "RESOURCE", "WHY"): [
            (claim.id, claim.stack, claim.urn, f"unknown: {_seen(claim, settings)}")
            for claim in report.other_account
        ],
    }
    for columns, rows in tables.items():
        if rows:
            common.print_table(columns, rows)
    common.print_unread(report.evidence.reasons)
    for claim in report.ageless:
        common.print_lines(f"Age unknown: {claim.id}, in {claim.stack}: {claim.urn}")
    common.print_lines(_summary(report))


def _machine(row: Row) -> list[str | Text]:
    one, claim, whose = row.instance, row.claim, row.whose.value
    if claim and claim.entry:
        how = "made for" if claim.is_certain else "perhaps made by the pending create of"
        whose += f": {how} {claim.urn}"
    return [one.id, one.instance_type, one.ip or "", common.status(one), whose]


def _print_ids(report: Report) -> None:
    """Print the ids of the forgotten machines, and on stderr why there may be more."""
    common.print_unread(report.evidence.reasons, err=True)
    common.print_lines(_counts(report), err=True)
    for row in report.machines:
        if row.whose is Whose.FORGOTTEN:
            common.print_lines(row.instance.id)


def _seen(claim: Claim, settings: Settings) -> str:
    if claim.account_id.endpoint not in ("", settings.endpoint):
        return f"seen at another endpoint ({claim.account_id.endpoint})"
    return f"seen with another key (account {claim.account_id.account})"


def _counts(report: Report) -> str:
    words = [f"{report.counts[whose]} {whose.value}" for whose in Whose if report.counts[whose]]
    details = f" ({', '.join(words)})" if words else ""
    read, gone = len(report.evidence.stacks), len(report.gone)
    return f"Machines: {len(report.machines)}{details}. Stacks read: {read}. Gone: {gone}."


def _summary(report: Report) -> str:
    sums = report.costs.in_words([row.instance for row in report.machines])
    lines = [
        _counts(report),
        *filter(None, [sums]),
        *(text for whose, text in _ADVICE.items() if report.counts[whose]),
    ]
    if LIST in report.evidence.unread:
        lines.append("Without a list, name all stacks with --stack.")
    if report.too_old:
        lines.append(
            f"Too old: {len(report.too_old)}. They keep billing. To delete one, remove it from its "
            "program and run `pulumi up`."
        )
    if any(row.exceeds(row.max_age) for row, _ in report.too_old):
        lines.append(
            "To delete all that are older than the max_age of their program, run:\n"
            "  pulumi-fal delete --expired"
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
    def resource(claim: Claim, **more: Any) -> dict[str, Any]:
        return {"id": claim.id, "urn": claim.urn, "stack": claim.stack, **more}

    return {
        "machines": machines_json(report.machines, report.costs),
        **report.costs.as_json(*(row.instance for row in report.machines)),
        "too_old": [
            resource(row.claim, age_seconds=row.age, max_age_seconds=int(limit))
            for row, limit in report.too_old
            if row.claim
        ],
        "gone": [resource(claim) for claim in report.gone],
        "other_account": [
            resource(claim, **asdict(claim.account_id)) for claim in report.other_account
        ],
        "stacks": [stack.name for stack in report.evidence.stacks],
        "unreadable": report.evidence.reasons,
    }
