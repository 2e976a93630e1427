"""Reads the arguments of a resource's constructor, which Pulumi allows in two forms."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import pulumi


def parse(
    resource: str, args_type: type, *positional: Any, **named: Any
) -> tuple[pulumi.ResourceOptions | None, dict[str, Any]]:
    """Return the options and the inputs, from an object of `args_type` or from named inputs.

    An input that is not given has the default of `args_type`, or else is None. Raises TypeError for
    unexpected arguments.
    """
    remaining = list(positional)
    inputs = {
        field.name: None if field.default is MISSING else field.default
        for field in fields(args_type)
    }
    has_args = bool(remaining) and not _is_options(remaining[0])
    args = remaining.pop(0) if has_args else named.pop("args", None)
    opts = remaining.pop(0) if remaining else named.pop("opts", None)
    if args is not None and not isinstance(args, args_type):
        raise TypeError(f"expected {args_type.__name__} or ResourceOptions, not {type(args)}")
    unknown = named if args is not None else {k: v for k, v in named.items() if k not in inputs}
    if remaining or unknown:
        unexpected = ", ".join([*map(repr, remaining), *unknown])
        raise TypeError(f"{resource} got unexpected arguments: {unexpected}")
    inputs.update(vars(args) if args is not None else named)
    return opts, inputs


def _is_options(value: object) -> bool:
    return value is None or isinstance(value, pulumi.ResourceOptions)
