"""The `pulumi-fal` command. Each subcommand has a module; the others are shared."""
