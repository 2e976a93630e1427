"""`pulumi-fal`, or `python -m pulumi_fal.cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or name the package that it lacks."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(
            f"The command line needs {error.name}: pip install 'CLONE[cli]', where CLONE is where "
            "the repository of pulumi-fal is."
        )
    from pulumi_fal.cli.app import cli

    cli()


if __name__ == "__main__":
    main()
