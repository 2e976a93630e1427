"""A client for fal Compute's REST API, usable without Pulumi."""
