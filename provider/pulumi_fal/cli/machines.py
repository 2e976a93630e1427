"""`pulumi-fal ls`, `get`, `ssh` and `ssh-config`: the machines there are, and how to log in.

All commands that are given a machine find it here.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from pulumi_fal import clock
from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import Settings
from pulumi_fal.cli import common
from pulumi_fal.cli.common import Context, Reader, pass_context
from pulumi_fal.errors import APIError, NotReadyError
from pulumi_fal.hosts import access
from pulumi_fal.machines import lifecycle
from pulumi_fal.machines.whose import Claim, Evidence, Row, Whose
from pulumi_fal.resource import wait
from pulumi_fal.resource.call import Costs
from pulumi_fal.stacks import state
from pulumi_fal.stacks.cache import Origin
from pulumi_fal.stacks.state import StackMachine

if TYPE_CHECKING:
    from pulumi_fal.api.client import Client

STACKS_SECONDS = 30.0
"""The most time that a command spends on stacks of which it only shows names."""
MOST_NAMED = 3
"""How many of the stacks that can't be read are named there."""

# ls and get

_NOT_LISTED = """
These are in stacks, but the API does not list them to this key. They are gone, or of another
account or endpoint, which `pulumi-fal audit` tells apart:"""


@click.command("ls")
@common.json_option
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
        # The API guarantees no order.
        instances.sort(key=lambda one: (one.instance_type, one.sector or "", one.id))
        costs = Costs(context.settings.prices)
        if as_json:
            common.print_json([{**asdict(one), **costs.as_json(one)} for one in instances])
        else:
            _print(instances, context.settings, costs, {})
        return
    note = "; --no-stacks leaves this out"
    evidence = Reader(context, seconds=STACKS_SECONDS, note=note).read(instances)
    rows = sorted(evidence.whose(instances), key=_place)
    instances, costs = [row.instance for row in rows], common.costs_of(context.settings, rows)
    common.print_unread(evidence.reasons, err=True, most=MOST_NAMED)
    if as_json:
        common.print_json(machines_json(rows, costs))
        return
    columns = {
        "STACK": [_stack(row.whose, row.claim) for row in rows],
        "RESOURCE": [_resource(row.claim) for row in rows],
    }
    limits = [common.in_seconds(row.max_age) for row in rows]
    is_limited = any(limit is not None for limit in limits)
    if with_age or is_limited:
        columns["AGE"] = _durations(row.age for row in rows)
    if is_limited:
        columns["MAX AGE"] = _durations(limits)
    _print(instances, context.settings, costs, columns)
    ids = {instance.id for instance in instances}
    if missing := [claim for claim in evidence.held if claim.id not in ids]:
        common.print_lines(_NOT_LISTED)
        common.print_table(
            ("MACHINE", "STACK", "RESOURCE"),
            [(claim.id, claim.stack, claim.name) for claim in missing],
        )


def _durations(known: Iterable[int | None]) -> list[str]:
    return ["" if seconds is None else clock.shown_duration(seconds) for seconds in known]


def _place(row: Row) -> tuple[object, ...]:
    """Sort machines by stack and name, node-2 before node-10, and those of no stack at the end."""
    claim = row.claim
    if claim is None:
        return True, "", [], row.instance.id
    return row.whose is not Whose.STACK, claim.stack, _natural(claim.name), row.instance.id


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


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
@common.json_option
@pass_context
def get(context: Context, machine: str, as_json: bool) -> None:
    """Show one machine, and how to log in.

    MACHINE is an id, or a name as `ls` shows it, also as STACK/NAME.
    """
    reader = Reader(context, seconds=STACKS_SECONDS)
    instance = find(reader, [machine])[machine]
    costs = Costs(context.settings.prices)
    if costs.prices:  # only stacks know the age, and reading them takes long
        evidence = reader.read([instance])
        if machine == instance.id:  # with a name, that has been said
            common.print_unread(evidence.reasons, err=True, most=MOST_NAMED)
        costs = common.costs_of(context.settings, evidence.whose([instance]))
    if as_json:
        common.print_json({**asdict(instance), **costs.as_json(instance)})
        return
    fields: dict[str, str | Text] = {
        "type": instance.instance_type,
        "sector": instance.sector or "",
        "ip": instance.ip or "",
        "status": common.status(instance),
        "login": f"ssh ubuntu@{instance.ip}" if instance.is_ready else "",
    }
    if instance.region:
        fields |= {"region": instance.region, "creator": instance.creator_user_nickname or ""}
    fields |= dict(zip(map(str.lower, costs.columns), costs.cells(instance), strict=True))
    common.print_record(instance.id, fields)


def _print(
    instances: Sequence[Instance],
    settings: Settings,
    costs: Costs,
    more: Mapping[str, Sequence[str]],
) -> None:
    """Print a table and the sums. `more` has further columns, each a cell for every machine."""
    if not instances:
        common.print_lines(
            f"There are no machines.\nThe key is from {settings.key_source}, for account "
            f"{settings.account} at {settings.endpoint}."
        )
        return
    cells: dict[str, Sequence[str | Text]] = {
        "ID": [instance.id for instance in instances],
        "TYPE": [instance.instance_type for instance in instances],
        "SECTOR": [instance.sector or "" for instance in instances],
        "IP": [instance.ip or "" for instance in instances],
        "STATUS": [common.status(instance) for instance in instances],
    }
    if any(instance.region for instance in instances):  # the legacy API returns no regions
        cells["REGION"] = [instance.region or "" for instance in instances]
        cells["CREATOR"] = [instance.creator_user_nickname or "" for instance in instances]
    cells |= more
    for number, name in enumerate(costs.columns):
        cells[name] = [costs.cells(instance)[number] for instance in instances]
    common.print_table(list(cells), zip(*cells.values(), strict=True))
    if sums := costs.in_words(instances):
        common.print_lines(sums)


def machines_json(rows: Iterable[Row], costs: Costs) -> list[dict[str, Any]]:
    """Return the machines as JSON. The age is null if no stack knows when it recorded one."""
    return [
        {
            **asdict(row.instance),
            "whose": row.whose.name.lower(),
            "stack": row.claim and row.claim.stack,
            "resource": row.claim and row.claim.name,
            "urn": row.claim and row.claim.urn,
            "created": None if row.created is None else common.moment(row.created),
            "age_seconds": row.age,
            "max_age_seconds": common.in_seconds(row.max_age),
            **costs.as_json(row.instance),
        }
        for row in rows
    ]


# Which machine is meant: an id, or a name as `ls` shows it.


def find(
    reader: Reader, given: Sequence[str], *, is_strict: bool = False, nothing: str = ""
) -> dict[str, Instance]:
    """Return the machines by what was given. Stacks are read only if that is not a machine's id.

    Raises ClickException, which begins with `nothing`, unless everything is one machine. With
    `is_strict`, no other machine of that name may be in what can't be read.
    """
    client = reader.context.client()
    listed = {instance.id: instance for instance in client.list_instances()}
    found: dict[str, Instance | str | None] = {
        text: listed.get(text) or _by_id(client, text)  # a list may lag behind
        for text in given
    }
    if names := [text for text, instance in found.items() if instance is None]:
        evidence = reader.read([*listed.values()])
        common.print_unread(evidence.reasons, err=True, most=MOST_NAMED)
        is_certain = not (is_strict and evidence.unread)
        found |= {text: _resolve(text, evidence, listed, is_certain) for text in names}
    if problems := [problem for problem in found.values() if isinstance(problem, str)]:
        raise click.ClickException(nothing + "\n".join(problems))
    return {text: instance for text, instance in found.items() if isinstance(instance, Instance)}


def _by_id(client: Client, text: str) -> Instance | None:
    try:
        return client.get_instance(text) if text.strip() else None
    except APIError as error:
        if error.status in (400, 404, 422):  # it knows no such id, or the text is no id to it
            return None
        raise


def _resolve(
    text: str, evidence: Evidence, listed: Mapping[str, Instance], is_certain: bool
) -> Instance | str:
    """Return the machine of that name, or why there is none or no certain one."""
    shown = [row.claim for row in evidence.whose(listed.values()) if row.claim]
    matching = {claim.id: claim for claim in (*evidence.held, *shown) if _is_meant(text, claim)}
    here = [claim for claim in matching.values() if claim.id in listed]
    if len(here) == 1 and here[0].is_certain:
        instance = listed[here[0].id]
        if is_certain:
            return instance
        return (
            f"{text!r} is {instance}, but what could not be read may have another "
            "machine of that name. Give the machine's id."
        )
    if here:
        rows = (f"\n  {_label(claim)}: {listed[claim.id]}" for claim in here)
        return (
            f"{text!r} may be any of these machines:{''.join(sorted(rows))}\n"
            "Give its id, or STACK/NAME if only one machine has that."
        )
    if matching:
        held = "".join(f"\n  {_label(claim)}: {claim.id}" for claim in matching.values())
        return (
            f"{text!r} is in state, but the API does not list its machine to this key:{held}\n"
            "It is gone, or of another account or endpoint. To see which, run:\n"
            "  pulumi-fal audit"
        )
    near = difflib.get_close_matches(text, sorted({_ending(text, claim) for claim in shown}))
    meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    where = " in what could be read" if evidence.unread else ""
    return (
        f"The API does not know {text!r}, and no machine has that name{where}.{meant}\n"
        "To see all machines of the account and their names, run:\n"
        "  pulumi-fal ls"
    )


def _is_meant(text: str, claim: Claim) -> bool:
    """Whether the text is NAME or STACK/NAME, where STACK may lack parts at its beginning."""
    if text in (claim.id, claim.name):
        return True
    stack = text.removesuffix(f"/{claim.name}")
    return stack != text and f"/{claim.stack}".endswith(f"/{stack}")


def _label(claim: Claim) -> str:
    return f"{'' if claim.is_certain else 'perhaps '}{claim.stack}/{claim.name}"


def _ending(text: str, claim: Claim) -> str:
    """Return as much of STACK/NAME as the text has."""
    parts = claim.stack.split("/")
    return "/".join([*parts[max(0, len(parts) - text.count("/")) :], claim.name])


# ssh


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("machine", metavar="MACHINE")
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@pass_context
def ssh(context: Context, machine: str, command: tuple[str, ...]) -> None:
    """Log in to a machine, or run a command there.

    MACHINE is an id, or a name as `ls` shows it, also as STACK/NAME. If the machine is not ready
    yet, or its SSH server does not greet yet, this waits for it. The exit code is that of ssh,
    which is the command's.
    """
    program = shutil.which("ssh")
    if program is None:
        raise click.ClickException("There is no `ssh` command on PATH. Install the OpenSSH client.")
    reader = Reader(context, seconds=STACKS_SECONDS)
    ready = _await(context, find(reader, [machine])[machine], machine)
    words = command[1:] if command[:1] == ("--",) else command
    arguments = [program, *_options(context, ready), *words]
    if os.name == "nt":  # there, exec returns to the shell at once
        sys.exit(subprocess.call(arguments))
    os.execv(program, arguments)  # noqa: S606 - the terminal and the signals are ssh's


def _await(context: Context, instance: Instance, name: str) -> Instance:
    """Wait until one can log in, for as long as a create does."""
    with common.progress(in_logs=True) as say:
        about = f"{common.plain(name)}: "
        if not instance.is_ready:
            say(about + wait.progress(instance))
        try:
            return context.account.lifecycle.wait_until_ready(
                instance,
                wait.CREATE_TIMEOUT,
                lambda shown: say(about + wait.progress(shown)),
                lambda reason: say(about + wait.silent(reason)),
                seen=True,
            )
        except NotReadyError as error:  # it advises whoever runs a create
            said = str(error).replace("`pulumi up`", "`pulumi-fal ssh`")
            raise click.ClickException(said) from None


def _options(context: Context, instance: Instance) -> list[str]:
    """Return the arguments of ssh up to the destination.

    Another machine may get the same address later, so host keys are kept by machine id.
    """
    known_hosts = context.journal.folder.parent / "known_hosts"
    known_hosts.parent.mkdir(parents=True, exist_ok=True)
    instead = os.environ.get(lifecycle.SSH_ADDRESS_VARIABLE, "")
    host, port = lifecycle.ssh_address(instance.ip or "", instead)
    options = {
        "UserKnownHostsFile": _quoted(known_hosts).replace("%", "%%"),
        "HostKeyAlias": instance.id,
        "CheckHostIP": "no",  # before OpenSSH 8.5, host keys were kept by address, too
        "StrictHostKeyChecking": "accept-new",
    }
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return [*given, "-p", str(port), "--", f"{access.USER}@{host}"]


def _quoted(path: Path) -> str:
    """Return a path for a line of an ssh config, where it may contain spaces."""
    return f'"{path.as_posix()}"'


# ssh-config


@click.command("ssh-config")
@click.argument("names", metavar="[MACHINE]...", nargs=-1)
@click.option(
    "--stack",
    default="",
    metavar="STACK",
    help="The stack to read. By default the one that is selected in this folder.",
)
@click.option(
    "--write",
    is_flag=True,
    help="Write a file for the stack, which ~/.ssh/config can include, and print how.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["ssh", "skypilot", "dstack"]),
    default="ssh",
    help="For whom: ssh, SkyPilot (a pool for `sky ssh up`), or dstack (an SSH fleet).",
)
@click.option(
    "--identity",
    metavar="FILE",
    help=f"The private key with which SkyPilot or dstack logs in. By default {access.IDENTITY}.",
)
@pass_context
def ssh_config(
    context: Context,
    names: tuple[str, ...],
    stack: str,
    write: bool,
    format_: str,
    identity: str | None,
) -> None:
    """Print an ssh config with machines by name.

    It has the machines of a stack, or those that are named. Save it to a file, and log in with
    `ssh -F FILE NAME`, by a machine's name in the program. If another one has the same name, use
    its id. For a stack, the command reads only state, so it needs no key.

    MACHINE is an id, or a name as `ls` shows it, also as STACK/NAME.
    """
    if names and (stack or write):
        raise click.UsageError("--stack and --write are for all machines of a stack: name none.")
    if (write and format_ != "ssh") or (identity and format_ == "ssh"):
        raise click.UsageError("--write is for ssh, and --identity for the other formats.")
    if names:
        found = find(Reader(context, seconds=STACKS_SECONDS), names).items()
        hosts = _with_ip([(access.alias(name), machine) for name, machine in found])
        click.echo(_text(hosts, format_, "fal", identity), nl=False)
        return
    machines = [machine for machine in state.read(stack).machines if not machine.is_replaced]
    hosts = _with_ip(_hosts(machines))
    origin = Origin(machines[0].urn)
    if not write:
        click.echo(_text(hosts, format_, f"{origin.project}-{origin.stack}", identity), nl=False)
        return
    file = context.journal.folder.parent / "ssh" / access.alias(f"{origin.project}.{origin.stack}")
    file.parent.mkdir(parents=True, exist_ok=True)
    named, hosts = hosts, _apart(hosts, file)
    text = _text(hosts, format_, "", None)
    file.touch(0o600)  # ssh refuses a config that others may write to
    file.write_text(text)
    renamed = f"Names that other stacks have too end in .{file.name}.\n" if hosts != named else ""
    common.print_lines(
        f"Wrote {file}, with the machines of {origin.stack}.\n{renamed}"
        "Add this line to ~/.ssh/config, above its first Host. It is the same for all stacks:\n"
        f"  Include {_quoted(file.parent / '*')}\n"
        f"Then log in by name, for example:\n  ssh {hosts[0][0]}"
    )


_Host = tuple[str, "Instance | StackMachine"]
"""A machine with its name for ssh."""


def _hosts(machines: Sequence[StackMachine]) -> list[_Host]:
    """Return the machines by name, and by id where another one has the same name."""
    machines = sorted(machines, key=lambda machine: _natural(Origin(machine.urn).name))
    aliases = [access.alias(Origin(machine.urn).name) for machine in machines]
    counts = Counter(aliases)
    return [
        (name if counts[name] == 1 else machine.id, machine)
        for name, machine in zip(aliases, machines, strict=True)
    ]


def _apart(hosts: Sequence[_Host], file: Path) -> list[_Host]:
    """Return the hosts with the stack in a name that another file has: ssh takes the first."""
    # Include * takes no hidden files.
    others = [other for other in file.parent.glob("[!.]*") if other.is_file() and other != file]
    text = "\n".join(other.read_text(errors="replace") for other in others)
    taken = re.findall(r"^Host (.+)", text, re.MULTILINE)
    return [(f"{name}.{file.name}" if name in taken else name, host) for name, host in hosts]


def _with_ip(hosts: Sequence[_Host]) -> list[_Host]:
    """Return the machines that have an ip, and name the others on stderr."""
    for name, machine in hosts:
        if machine.ip is None:
            click.echo(
                f"{name} is left out: no ip of it is known. Run `pulumi refresh` if it is ready by "
                "now; an ip that is a secret can't be read.",
                err=True,
            )
    known = [(name, machine) for name, machine in hosts if machine.ip is not None]
    if not known:
        raise click.ClickException("There is no machine with an ip.")
    return known


def _text(hosts: Sequence[_Host], format_: str, pool: str, identity: str | None) -> str:
    """Return the file in that format. `pool` is what SkyPilot or dstack calls the machines."""
    ips = {name: machine.ip or "" for name, machine in hosts}
    key = identity or access.IDENTITY
    try:
        if format_ == "skypilot":
            return access.skypilot(pool, ips.values(), key)
        if format_ == "dstack":
            sectors = [machine.sector for _, machine in hosts]
            return access.dstack(pool, ips.values(), sectors, key)
        return access.ssh_config(ips, {name: machine.id for name, machine in hosts})
    except ValueError as error:
        raise click.ClickException(f"The stack's state is damaged: {error}.") from None
