"""The resource's operations, such as check, diff and create, without any import of Pulumi."""
