"""Manages machines: create each exactly once, find it, wait until it is ready, delete it."""
