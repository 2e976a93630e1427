"""Stacks with their programs and states, and what the `pulumi` command says of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pulumi_fal.errors import StackError
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.tokens import TYPE_TOKEN

from .disk import READ

if TYPE_CHECKING:
    from .plugin import Process

Inputs = dict[str, Any]
CLOUD = "https://api.cloud.test"
"""The address of a Pulumi Cloud, where a stack is in one of several organizations."""
ONLY_ORGANIZATION = "organization"
"""The organization of all stacks of any other backend."""


@dataclass(eq=False)
class Row:
    """A resource in state."""

    id: str
    inputs: Inputs
    outputs: dict[str, Any]
    has_errors: bool = False


@dataclass(eq=False)
class Stack:
    """A program and a state."""

    name: str
    backend: str
    organization: str = ONLY_ORGANIZATION
    program: dict[str, Inputs] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    doomed: list[tuple[str, Row]] = field(default_factory=list)
    """Replaced, and not deleted yet."""
    titles: list[str] = field(default_factory=lambda: ["dev"])
    """What Pulumi has called it; the last is the name that it has now."""

    @property
    def title(self) -> str:
        return self.titles[-1]

    @property
    def full_name(self) -> str:
        return f"{self.organization}/project/{self.title}"

    def origin(self, name: str, title: str = "") -> Origin:
        urn = f"urn:pulumi:{title or self.title}::project::{TYPE_TOKEN}::{name}"
        return Origin(urn, self.organization, self.backend)

    def origins(self, name: str) -> list[Origin]:
        """Under every name that the stack has had."""
        return [self.origin(name, title) for title in self.titles]

    def ids(self) -> frozenset[str]:
        """The machines that `pulumi stack export` prints."""
        return frozenset(row.id for row in self.every_row())

    def every_row(self) -> list[Row]:
        return [*self.rows.values(), *(row for _, row in self.doomed)]

    def exported(self) -> Any:
        rows = [(name, row, False) for name, row in self.rows.items()]
        rows += [(name, row, True) for name, row in self.doomed]
        return {
            "deployment": {
                "resources": [
                    {
                        "type": TYPE_TOKEN,
                        "urn": self.origin(name).urn,
                        "id": row.id,
                        "outputs": row.outputs,
                        "delete": is_replaced,
                    }
                    for name, row, is_replaced in rows
                ]
            }
        }


def pulumi(process: Process, stacks: Iterable[Stack], args: tuple[str, ...], backend: str) -> Any:
    """What the `pulumi` command prints for a process, as decoded JSON."""
    own = process.world.stacks[process.stack]
    if args[0] == "whoami":
        return {"url": own.backend.replace("api.", "app.", 1)}
    if not process.conditions.answers:
        raise StackError("`pulumi` did not end within 30 s")
    there = [stack for stack in stacks if stack.backend == (backend or own.backend)]
    if args[:2] == ("stack", "ls"):
        process.step("`pulumi stack ls` runs", "names of stacks", READ)
        return [{"name": stack.full_name} for stack in there]
    if args[:2] == ("stack", "export"):
        name = args[args.index("--stack") + 1] if "--stack" in args else own.full_name
        found = next((stack for stack in there if stack.full_name == name), None)
        process.step("`pulumi stack export` runs", f"state of {name}", READ)
        if found is None:
            raise StackError(f"no stack named {name!r} found")
        return found.exported()
    raise AssertionError(f"the simulated `pulumi` knows no {args}")
