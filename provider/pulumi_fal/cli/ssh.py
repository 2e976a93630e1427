"""`pulumi-fal ssh` logs in to a machine, and `pulumi-fal ssh-config` is for ssh itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from pulumi_fal.api.models import Instance
from pulumi_fal.cli import show
from pulumi_fal.cli.context import Context, pass_context
from pulumi_fal.cli.machines import find
from pulumi_fal.errors import NotReadyError
from pulumi_fal.machines import lifecycle
from pulumi_fal.resource import access, wait
from pulumi_fal.stacks import state
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine

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
    ready = _await(context, find(context, [machine])[machine], machine)
    words = command[1:] if command[:1] == ("--",) else command
    arguments = [program, *_options(context, ready), *words]
    if os.name == "nt":  # there, exec returns to the shell at once
        sys.exit(subprocess.call(arguments))
    os.execv(program, arguments)  # noqa: S606 - the terminal and the signals are ssh's


def _await(context: Context, instance: Instance, name: str) -> Instance:
    """Wait until one can log in, for as long as a create does."""
    with show.progress(in_logs=True) as progress:

        def say(what: str) -> None:
            progress.begin(f"{show.plain(name)}: {what}")

        if not instance.is_ready:
            say(wait.progress(instance))
        try:
            return context.account.lifecycle.wait_until_ready(
                instance,
                wait.CREATE_TIMEOUT,
                lambda shown: say(wait.progress(shown)),
                lambda reason: say(wait.silent(reason)),
                was_shown=True,
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
        found = find(context, names).items()
        hosts = _with_ip([(access.alias(name), machine) for name, machine in found])
        click.echo(_text(hosts, format_, "fal", identity), nl=False)
        return
    machines = [machine for machine in state.read(stack).machines if not machine.is_replaced]
    hosts = _with_ip(_hosts(machines))
    origin = Origin(machines[0].urn)
    text = _text(hosts, format_, f"{origin.project}-{origin.stack}", identity)
    if not write:
        click.echo(text, nl=False)
        return
    file = context.journal.folder.parent / "ssh" / access.alias(f"{origin.project}.{origin.stack}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(0o600)  # ssh refuses a config that others may write to
    file.write_text(text)
    show.print_lines(
        f"Wrote {file}, with the machines of {origin.stack}.\n"
        "Add this line to ~/.ssh/config, above its first Host. It is the same for all stacks:\n"
        f"  Include {_quoted(file.parent / '*')}\n"
        f"Then log in by name, for example:\n  ssh {hosts[0][0]}"
    )


_Host = tuple[str, "Instance | StackMachine"]
"""A machine with its name for ssh."""


def _hosts(machines: Sequence[StackMachine]) -> list[_Host]:
    """Return the machines by name, and by id where another one has the same name."""
    aliases = [access.alias(Origin(machine.urn).name) for machine in machines]
    counts = Counter(aliases)
    return [
        (name if counts[name] == 1 else machine.id, machine)
        for name, machine in zip(aliases, machines, strict=True)
    ]


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
