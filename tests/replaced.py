"""Parts of the package, replaced in a plugin process before the provider is loaded."""

from __future__ import annotations

import pkgutil

NOTHING = "lambda *args, **fields: None"
OFF = {
    "dynamic.patches.raise_concurrency": NOTHING,
    "dynamic.patches.route_imports": NOTHING,
    "dynamic.patches.without_traceback": NOTHING,
    "dynamic.lifetime.on_cancel": NOTHING,
    "engine.on_death": NOTHING,
    "dynamic.request.EngineRequest.keep_partial_state": "lambda *args: False",
    "dynamic.request.EngineRequest.on_undelivered": NOTHING,
    "dynamic.request.EngineRequest.log": NOTHING,
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
