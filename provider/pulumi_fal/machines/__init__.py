"""A machine's life: create it exactly once, find it, await it, delete it."""
