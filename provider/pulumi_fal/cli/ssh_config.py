"""The command `pulumi-fal ssh-config`, which writes a config file for ssh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import click

from pulumi_fal import access
from pulumi_fal.stacks import state
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.stacks.state import StackMachine


@click.command("ssh-config")
@click.option(
    "--stack",
    "name",
    default="",
    metavar="STACK",
    help="The stack to read. By default the one that is selected in this folder.",
)
def ssh_config(name: str) -> None:
    """Print an ssh config with the machines of a stack.

    Save it to a file, and log in with `ssh -F FILE NAME`, by a machine's name in the program. If
    another one has the same name, use its id. The command reads only state, so it needs no key.
    """
    machines = [machine for machine in state.read(name).machines if not machine.is_replaced]
    for machine in machines:
        if machine.ip is None:
            click.echo(
                f"{access.alias(_name(machine))} is left out: state has no ip for it. Run `pulumi "
                "refresh` if it is ready by now; an ip that is a secret can't be read.",
                err=True,
            )
    ips = _by_alias(machines)
    if not ips:
        raise click.ClickException("The stack has no machine with an ip.")
    try:
        click.echo(access.ssh_config(ips), nl=False)
    except ValueError as error:
        raise click.ClickException(f"The stack's state is damaged: {error}.") from None


def _by_alias(machines: Sequence[StackMachine]) -> dict[str, str]:
    counts = Counter(access.alias(_name(machine)) for machine in machines)
    return {
        name if counts[name] == 1 else machine.id: machine.ip
        for machine in machines
        if machine.ip is not None and (name := access.alias(_name(machine)))
    }


def _name(machine: StackMachine) -> str:
    """Return the resource's name in the program."""
    return Origin(machine.urn).name
