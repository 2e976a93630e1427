"""What the engine does not send with the Read of an import: the inputs in the program.

With the resource option, the engine compares the machine with the program only after it has put
the machine into state. So a refused import leaves a mark there. Whatever command comes next removes
the resource from state, and no command deletes its machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi_fal.errors import LifecycleError
from pulumi_fal.machines.process import Machines
from pulumi_fal.native.properties import camel_words
from pulumi_fal.resource import imports
from pulumi_fal.resource.call import UNKNOWN, Call


def refuse_mismatch(id_: str, outputs: Mapping[str, Any], news: Mapping[str, Any]) -> None:
    """Raise LifecycleError if the imported machine differs from the program's inputs."""
    known = {name: value for name, value in news.items() if value is not UNKNOWN}
    try:
        imports.refuse_mismatch(id_, outputs, known)
    except LifecycleError as error:
        raise LifecycleError(id_, camel_words(str(error))) from None


def refuse_to_replace(machines: Machines, call: Call, id_: str, outputs: Mapping[str, Any]) -> None:
    """Raise LifecycleError if the imported machine differs from the one that it would replace.

    The engine marks that one for deletion before the imported machine is compared with the program,
    and deletes it even if the import is refused then. So the inputs in state stand for the program.
    """
    in_stack = machines.stacks.machines(machines.origin(call.urn))
    for old in in_stack or ():
        if old.urn != call.urn or old.id == id_ or old.is_replaced:
            continue
        wanted = {"instance_type": old.instance_type, "sector": old.requested_sector}
        try:
            imports.refuse_mismatch(id_, outputs, wanted)
        except LifecycleError:
            raise LifecycleError(
                id_,
                f"Machine {id_} was not imported: it would replace machine {old.id}, which has "
                "another type or sector, and Pulumi would delete that one.\n"
                "To keep it, give the imported machine another name in the program.\n"
                "To replace it, run `pulumi up` without the resource first: this deletes it.",
            ) from None


def completed(
    before: Mapping[str, Any], outputs: Mapping[str, Any], news: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the old inputs, completed from the new ones if an import left some out.

    The API does not return the SSH key, nor which of the sectors was requested. Since that is no
    difference, the engine records these inputs without a change.
    """
    if "ssh_key" in before or "ssh_key" in outputs:
        return before
    unrecorded = {name: new for name, new in news.items() if outputs.get(name, new) == new}
    return {**unrecorded, **before}
