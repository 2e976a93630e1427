"""The calls of `pulumi do`, which work on machines without a stack.

The URN in them is the same for every machine. So each create is recorded under a name of its own,
and the record stays until the machine is deleted, because no state has it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from pulumi_fal.errors import Interrupted, LifecycleError, NotReadyError, VanishedError
from pulumi_fal.machines.journal import Journal
from pulumi_fal.resource import inputs, operations
from pulumi_fal.resource.call import InitFailed
from pulumi_fal.stacks.origin import stateless_urn
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN


def configures(request: Any) -> bool:
    """Whether a ConfigureRequest comes from `pulumi do`.

    That gives the provider a URN with an empty name. The engine gives it a name, and old engines
    neither.
    """
    return bool(getattr(request, "urn", "")) and not request.name


def new_urn() -> str:
    """Return the URN of a create, with a name that no other has."""
    return stateless_urn(NATIVE_TYPE_TOKEN, f"do-{secrets.token_hex(4)}")


def urn(id_: str) -> str:
    """Return the URN of a call on an existing machine."""
    return stateless_urn(NATIVE_TYPE_TOKEN, id_)


def without_state(error: InitFailed | VanishedError) -> LifecycleError:
    """Return the error of a create whose machine is not ready, for a person who has no stack."""
    id_ = error.instance_id
    if isinstance(error, VanishedError):
        return LifecycleError(id_, f"{error.happened} Run the command again to create a new one.")
    cause = error.__cause__
    why = ""
    if isinstance(cause, Interrupted):
        why = ", because the wait was interrupted"
    elif cause is not None and not isinstance(cause, NotReadyError):
        why = f", because the wait failed: {cause}".rstrip(".")
    return LifecycleError(
        id_,
        f"Machine {id_} was created, but is not ready{why}.\n"
        f"It is billed, and no stack has it; its status was {error.outputs.get('status')}.\n"
        f"To see its status:\n  pulumi-fal get {id_}\n"
        f"To delete it:\n  pulumi-fal delete {id_} --force",
    )


def refuse_change(id_: str, outputs: Mapping[str, Any], news: Mapping[str, Any]) -> None:
    """Raise LifecycleError if new inputs differ from the machine, or may differ.

    The API does not return the SSH key of a machine, and no state has it either.
    """
    changed = [name for name in inputs.REPLACING if news.get(name) not in (None, outputs.get(name))]
    operations.refuse_change(id_, changed)


def drop_records(journal: Journal, id_: str) -> None:
    """Drop the record of the create that made a machine, which is gone."""
    for entry in journal.readable():
        if entry.instance_id == id_ and entry.origin.is_stateless:
            journal.exchange(entry, None)
