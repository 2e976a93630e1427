"""Parts of the package, replaced in a plugin process before the provider is loaded."""

from __future__ import annotations

import pkgutil

NOTHING = "lambda *args, **fields: None"
OFF = {
    "hosts.dynamic.raise_concurrency": NOTHING,
    "hosts.dynamic.route_imports": NOTHING,
    "hosts.dynamic.without_traceback": NOTHING,
    "hosts.dynamic.on_cancel": NOTHING,
    "hosts.engine.on_death": NOTHING,
    "hosts.dynamic.EngineRequest.keep_partial_state": "lambda *args: False",
    "hosts.dynamic.EngineRequest.on_undelivered": NOTHING,
    "hosts.dynamic.EngineRequest.log": NOTHING,
}
"""What each seam is replaced with, by the name that it has in the package."""


def replaced(name: str, value: object) -> str:
    """The Python that gives another value to a name of the package, to run before a plugin.

    Raises AttributeError if the package has no such name, for then nothing would be replaced.
    """
    name = f"pulumi_fal.{name}"
    pkgutil.resolve_name(name)
    parent, _, attribute = name.rpartition(".")
    return f"import pkgutil\nsetattr(pkgutil.resolve_name({parent!r}), {attribute!r}, {value})"
