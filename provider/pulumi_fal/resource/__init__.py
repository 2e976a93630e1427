"""What Pulumi asks of a machine: check, diff, create, read, import, update, delete. No Pulumi."""
