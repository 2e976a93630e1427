"""`python -m benchmarks`: compare the provider with a naive one and a client without Pulumi."""
