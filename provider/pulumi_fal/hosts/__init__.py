"""The hosts: what Pulumi calls, in the process of a plugin."""
