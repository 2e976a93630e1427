"""The entry point of `pulumi-fal` and `python -m pulumi_fal.cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or exit with a message if its dependencies are missing."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(
            f"The command line needs {error.name}: pip install 'CLONE[cli]', where CLONE is the "
            "path or URL of the pulumi-fal repository."
        )
    from pulumi_fal.cli.app import cli

    cli()


if __name__ == "__main__":
    main()
