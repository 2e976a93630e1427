"""The `pulumi-fal` command, with one module per subcommand."""
