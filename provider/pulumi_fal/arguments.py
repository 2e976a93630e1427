"""Reads the arguments of a resource's constructor, which Pulumi allows in two forms."""

from __future__ import annotations

import difflib
from dataclasses import MISSING, fields
from typing import Any

import pulumi


def parse(
    resource: str, args_type: type, *positional: Any, **named: Any
) -> tuple[pulumi.ResourceOptions | None, dict[str, Any]]:
    """Return the options and the inputs, from an object of `args_type` or from named inputs.

    An input that is not given has the default of `args_type`, or else is None. Raises RunError for
    unexpected arguments, which Pulumi shows without a traceback. `resource` is its type and name.
    """
    remaining = list(positional)
    inputs = {
        field.name: None if field.default is MISSING else field.default
        for field in fields(args_type)
    }
    has_args = bool(remaining) and not _is_options(remaining[0])
    args = remaining.pop(0) if has_args else named.pop("args", None)
    opts = remaining.pop(0) if remaining else named.pop("opts", None)
    is_wrong = (args is not None and not isinstance(args, args_type)) or not _is_options(opts)
    if is_wrong or remaining:
        raise pulumi.RunError(
            f"{resource}: pass the inputs by name, such as {next(iter(inputs))}=..., or as one "
            f"{args_type.__name__}."
        )
    if (
        unknown := named
        if args is not None
        else {k: v for k, v in named.items() if k not in inputs}
    ):
        raise pulumi.RunError(f"{resource}: {_unexpected(unknown, [*inputs, 'opts'])}")
    inputs.update(vars(args) if args is not None else named)
    return opts, inputs


def _unexpected(unknown: dict[str, Any], known: list[str]) -> str:
    said = []
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1)
        said.append(f"{name} (did you mean {near[0]}?)" if near and near[0] != name else name)
    return f"unexpected argument{'s' * (len(said) > 1)} {', '.join(said)}."


def _is_options(value: object) -> bool:
    return value is None or isinstance(value, pulumi.ResourceOptions)
