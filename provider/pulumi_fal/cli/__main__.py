"""The command group `pulumi-fal`, and how it reports errors: the entry point of all commands."""

from __future__ import annotations

from typing import Any

import click

from pulumi_fal._version import __version__
from pulumi_fal.cli import show
from pulumi_fal.cli.audit import audit
from pulumi_fal.cli.delete import delete
from pulumi_fal.cli.doctor import doctor
from pulumi_fal.cli.import_file import import_file
from pulumi_fal.cli.machines import get, list_
from pulumi_fal.cli.pending import pending
from pulumi_fal.cli.ssh import ssh, ssh_config
from pulumi_fal.errors import FalError


class Cli(click.Group):
    """A command group that prints the message of a FalError instead of its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (FalError, click.ClickException) as error:
            if isinstance(error, click.UsageError):
                raise
            raise click.ClickException(show.plain(str(error))) from None


@click.group("pulumi-fal", cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pulumi-fal")
def main() -> None:
    """Show and delete machines on fal Compute, and find those that are in no stack.

    The commands use the key and the endpoint that the provider uses: those in the environment, or
    else in the config of the stack that is selected in the current folder.

    Exit codes: 0 for success, 1 if a command is refused or fails, 2 for wrong usage. `audit` has
    its own.
    """


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: tuple[str, ...]) -> None:
    """Run an emulator of fal Compute. Its machines cost nothing."""
    from pulumi_fal.emulator import __main__ as server

    server.main(arguments)


for command in (list_, get, delete, ssh, ssh_config, pending, audit, import_file, doctor, emulator):
    main.add_command(command)

if __name__ == "__main__":
    main()
