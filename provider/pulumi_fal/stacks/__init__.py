"""Which stack this is, and which machines it and other stacks have, by the `pulumi` command."""
