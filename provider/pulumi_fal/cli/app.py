"""The command with its subcommands, and how errors are printed."""

from __future__ import annotations

from typing import Any

import click

from pulumi_fal._version import __version__
from pulumi_fal.cli.audit import audit
from pulumi_fal.cli.doctor import doctor
from pulumi_fal.cli.emulator import emulator
from pulumi_fal.cli.import_file import import_file
from pulumi_fal.cli.machines import get, list_
from pulumi_fal.cli.pending import pending
from pulumi_fal.errors import FalError


class Cli(click.Group):
    """Prints a FalError as a message and exits with 1, instead of printing a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FalError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pulumi-fal")
def cli() -> None:
    """See what runs on fal Compute, and what no stack knows of.

    The key and the endpoint are those that the provider uses: from the environment, else from the
    config of the stack that is selected in this folder.

    Exit codes: 0, done; 1, refused or failed; 2, wrong usage. `audit` has its own.
    """


for command in (list_, get, pending, audit, import_file, doctor, emulator):
    cli.add_command(command)
