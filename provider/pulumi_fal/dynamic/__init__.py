"""The host for Python's dynamic providers: everything that relies on the details of the SDK."""
