"""The properties of a machine, as programs and state have them: what each is for, in one table.

Everything else is derived from it: what replaces a machine, what a preview knows, the names in the
schema, and with the docstrings of compute_instance.py the schema and the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """One property of a machine."""

    name: str
    """The name in Python and in the state that the dynamic provider writes."""
    is_input: bool = False
    """Whether a program can set it."""
    replaces: bool = False
    """Whether a change of this input replaces the machine."""
    is_output: bool = False
    """Whether a program can read it. State has the other inputs among its outputs as well."""
    is_late: bool = False
    """Whether its value in state is that of the machine, which is known only after the wait. A
    preview shows it as unknown, unless the program requests a value."""

    @property
    def camel(self) -> str:
        """The name in the schema, and in the state that the native plugin writes."""
        first, *others = self.name.split("_")
        return "".join([first, *(word.capitalize() for word in others)])


FIELDS = (
    Field("instance_type", is_input=True, replaces=True, is_output=True),
    Field("ssh_key", is_input=True, replaces=True, is_output=True),
    Field("sector", is_input=True, replaces=True, is_output=True, is_late=True),
    Field("wait", is_input=True),
    Field("wait_for_capacity", is_input=True),
    Field("wait_for_ssh", is_input=True),
    Field("ip", is_output=True, is_late=True),
    Field("status", is_output=True, is_late=True),
    Field("region", is_output=True),
    Field("creator_user_nickname", is_output=True),
)

CLUSTER_FIELDS = (
    Field("size", is_input=True),
    Field("ips", is_output=True),
    Field("main_ip", is_output=True),
    Field("sector", is_output=True),
    Field("hostfile", is_output=True),
    Field("torchrun", is_output=True),
    Field("ssh_config", is_output=True),
    Field("inventory", is_output=True),
    Field("machines", is_output=True),
)
"""What a ComputeCluster has besides the inputs of its machines."""


def names(wanted: Callable[[Field], bool]) -> tuple[str, ...]:
    """Return the names of the wanted fields, in the order of the table."""
    return tuple(field.name for field in FIELDS if wanted(field))
