"""Writes the files that say what the code declares: the schema, and the page of the reference."""
