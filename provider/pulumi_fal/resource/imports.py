"""The read of a machine that a program imports, and what it may not differ in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi_fal.errors import LifecycleError
from pulumi_fal.machines.process import Machines
from pulumi_fal.resource import inputs, outputs
from pulumi_fal.resource.outputs import IMPORTED, UNFINISHED
from pulumi_fal.resource.wait import not_up


def read(machines: Machines, id_: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of a machine that a program imports.

    `wanted` are the inputs in the program. Raises LifecycleError if the machine differs from them.
    """
    instance = machines.lifecycle.find(id_)
    if instance is None:
        raise not_known(id_)
    problems = "; ".join(failure.reason for failure in inputs.failures(wanted))
    if problems:
        raise LifecycleError(id_, f"Machine {id_} was not imported: {problems}")
    refuse_mismatch(id_, vars(instance), wanted)
    outs = outputs.from_instance(instance, wanted, machines.account_id)
    is_awaited = inputs.waits(wanted) and not_up(machines, instance, wanted)
    return imported(outs, is_finished=not is_awaited)


def imported(outs: Mapping[str, Any], *, is_finished: bool) -> dict[str, Any]:
    """Return the outputs of a machine, as those of one that was imported.

    If it is not finished, Pulumi calls update next, which waits for it.
    """
    return {**outs, IMPORTED: True, **({} if is_finished else {UNFINISHED: True})}


def refuse_mismatch(id_: str, actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise LifecycleError if a machine to import has another type or sector than is wanted."""
    differences = [
        f"its {name} is {actual.get(name)}, but the program says {wanted[name]}"
        for name in ("instance_type", "sector")
        if wanted.get(name) not in (None, actual.get(name))
    ]
    if differences:
        raise LifecycleError(
            id_,
            f"Machine {id_} was not imported: {'; '.join(differences)}. "
            "Correct the program, or import another machine.",
        )


def not_known(id_: str) -> LifecycleError:
    """Return the error of a machine that is read by its id, and that the API does not know."""
    return LifecycleError(
        id_,
        f"Machine {id_} can't be read: the API does not know it. Correct the id; `pulumi-fal ls` "
        "lists the machines of the account.",
    )
