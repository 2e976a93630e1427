"""The host for Python's dynamic providers: everything that relies on the SDK's plugin process."""
