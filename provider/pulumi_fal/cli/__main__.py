"""The entry point of `pulumi-fal` and `python -m pulumi_fal.cli`."""

from pulumi_fal.cli.app import cli as main

if __name__ == "__main__":
    main()
