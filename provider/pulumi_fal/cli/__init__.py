"""The `pulumi-fal` command: a file a command, and what they share."""
