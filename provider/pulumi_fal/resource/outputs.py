"""Builds a resource's outputs, as they are stored in state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.resource import inputs
from pulumi_fal.resource.call import UNKNOWN
from pulumi_fal.resource.inputs import NAMES

_OUTPUTS = inputs.names(lambda field: field.is_output)
_LATE = inputs.names(lambda field: field.is_late)

IMPORTED = "imported"
"""Set while the SSH key in state is the one that an import was given. The API does not return keys,
so it may not be the machine's."""
UNFINISHED = "unfinished"
"""Set only while a machine's wait for ready is incomplete: to True, or to GONE."""
GONE = "gone"
"""The value of UNFINISHED once a wait has found that the machine no longer exists."""

_REQUESTED = (*inputs.names(lambda field: field.is_input and not field.is_late), IMPORTED)


def from_instance(
    instance: Instance, props: Mapping[str, Any], account_id: AccountId
) -> dict[str, Any]:
    """Return the outputs for a machine: what the API shows, and what was requested.

    `props` are the resource's inputs or its earlier outputs. `account_id` names the account
    that the machine was seen with.
    """
    outs = {
        **{name: value for name, value in vars(instance).items() if name in _OUTPUTS},
        # The API shows the sector of a new machine late. Until then, use the requested one, if any.
        "sector": instance.sector or props.get("sector"),
        **vars(account_id),
        **requested(props),
    }
    return {name: value for name, value in outs.items() if value is not None}


def planned(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs that a preview shows for a machine that would be created."""
    return {**unknown(), **{name: props[name] for name in NAMES if name in props}}


def unknown() -> dict[str, Any]:
    """Return the outputs that are known only after the wait for a machine."""
    return dict.fromkeys(_LATE, UNKNOWN)


def requested(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that are copied to the outputs; `props` are inputs or earlier outputs.

    Late ones are not among them: the outputs have the sector that the machine is in. IMPORTED is.
    """
    return {name: props[name] for name in _REQUESTED if name in props}
