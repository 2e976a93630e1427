"""`python -m benchmarks`: how fast the provider is, beside a naive one and beside no Pulumi."""
