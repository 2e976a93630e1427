"""The command `pulumi-fal emulator`, which is the same as `python -m pulumi_fal.emulator`."""

from __future__ import annotations

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: tuple[str, ...]) -> None:
    """Run an emulator of fal Compute. Its machines cost nothing."""
    from pulumi_fal.emulator.__main__ import main

    main(arguments)
