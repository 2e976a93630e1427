"""fal Compute's REST API: a plain Python library."""
