"""`python -m benchmarks`: compare the provider with one written by hand."""
