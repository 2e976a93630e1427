"""Python's dynamic provider as a host: everything that reaches into the SDK's plugin process."""
