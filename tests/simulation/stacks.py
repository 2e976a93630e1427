"""Stacks with their programs and states, and what the `pulumi` command says of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pulumi_fal.errors import StackError
from pulumi_fal.resource.inputs import REPLACING
from pulumi_fal.stacks.cache import ONLY_ORGANIZATION
from pulumi_fal.tokens import MACHINES, PROVIDER_TYPES

from .journal import READ

if TYPE_CHECKING:
    from .plugin import Process

Inputs = dict[str, Any]
CLOUD = "https://api.cloud.test"
"""The address of a Pulumi Cloud, where a stack is in one of several organizations."""
MOVES = ("rename", "migrate", "transfer", "spell", "remove")
"""What becomes of a stack between two commands: its state moves on under another name; or into
another backend, and stays behind as well; or without that; or into a backend that is now written in
another way, or another organization. Or it is removed, whatever machines it has."""
UNREAD = ("another stack", "other backends", "the list", "every stack", "anything")
"""What a command can't read: of other stacks and backends, or of all of `pulumi`."""


def place(url: str) -> str:
    """Where a backend is, which may be written in several ways."""
    return url.partition("?")[0]


@dataclass(eq=False)
class Row:
    id: str
    inputs: Inputs
    outputs: dict[str, Any]
    has_errors: bool = False
    called: str = ""
    """The resource's name when the engine wrote this; "" if it never had another one."""

    @property
    def requested(self) -> Inputs:
        return replacing(self.inputs)


def replacing(inputs: Inputs) -> Inputs:
    """Return those of the inputs of which another value replaces the machine."""
    return {name: inputs.get(name) for name in REPLACING}


@dataclass(eq=False)
class Stack:
    """A program and a state."""

    name: str
    """What we call it, whatever Pulumi does."""
    backend: str
    organization: str = ONLY_ORGANIZATION
    title: str = "dev"
    """What Pulumi calls it now."""
    is_native: bool = False
    """Whether its host is told the provider's id."""
    program: dict[str, Inputs] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    doomed: list[tuple[str, Row]] = field(default_factory=list)
    """Replaced, and not deleted yet."""
    provider: str = ""
    """The id of its provider resource, from its first `up` until it is destroyed."""
    creating: list[tuple[str, Inputs]] = field(default_factory=list)
    """The resources whose create has not ended, or was cut off, and what each requests."""
    exists: bool = True
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By what we call a resource, its names in the program: the last one, and before it those of
    which it has aliases. Without any, it is what we call it."""

    @property
    def full_name(self) -> str:
        return f"{self.organization}/project/{self.title}"

    def urn(self, name: str) -> str:
        return self.urn_of(self.called(name))

    def urn_of(self, called: str) -> str:
        return f"urn:pulumi:{self.title}::project::{MACHINES[self.is_native]}::{called}"

    def called(self, name: str) -> str:
        return self.names.get(name, (name,))[-1]

    def requests(self, name: str) -> list[Inputs]:
        """What the creates of a resource request that have not ended, or were cut off."""
        return [replacing(news) for called, news in self.creating if called == self.called(name)]

    def aliases(self, name: str) -> tuple[str, ...]:
        return tuple(map(self.urn_of, self.names.get(name, ())[:-1]))

    def ids(self) -> frozenset[str]:
        """The machines that `pulumi stack export` prints."""
        return frozenset(row.id for row in self.every_row())

    def every_row(self) -> list[Row]:
        return [*self.rows.values(), *(row for _, row in self.doomed)]

    def clear(self) -> None:
        self.rows, self.doomed, self.provider, self.creating = {}, [], "", []

    def copied(self) -> Stack:
        """Return a copy, of which a change to state changes nothing here."""
        rows = {name: replace(row) for name, row in self.rows.items()}
        doomed = [(name, replace(row)) for name, row in self.doomed]
        return replace(self, rows=rows, doomed=doomed, creating=list(self.creating))

    def write(self, state: Stack) -> None:
        new = state.copied()
        self.rows, self.doomed, self.provider = new.rows, new.doomed, new.provider
        self.creating = new.creating

    def exported(self) -> Any:
        rows = [(name, row, False) for name, row in self.rows.items()]
        rows += [(name, row, True) for name, row in self.doomed]
        machines = [
            {
                "type": MACHINES[self.is_native],
                "urn": self.urn_of(row.called or name),
                "id": row.id,
                "inputs": row.inputs,
                "outputs": row.outputs,
                "delete": is_replaced,
            }
            for name, row, is_replaced in rows
        ]
        provider = {"type": PROVIDER_TYPES[self.is_native], "id": self.provider}
        creating = [
            {"type": "creating", "resource": {"urn": self.urn_of(called), "inputs": news}}
            for called, news in self.creating
        ]
        return {"deployment": {"resources": [provider, *machines], "pending_operations": creating}}


def pulumi(process: Process, stacks: Iterable[Stack], args: tuple[str, ...], backend: str) -> Any:
    """What the `pulumi` command prints for a process, as decoded JSON."""
    unread, own = process.conditions.unread, place(process.backend)
    if args[0] == "whoami" and unread != "anything":
        return {"url": process.backend.replace("api.", "app.", 1)}
    where = place(backend) or own
    is_away = unread == "other backends" and where != own
    if is_away or unread in ("every stack", "anything"):
        raise StackError("`pulumi` did not end within 30 s")
    there = [stack for stack in stacks if stack.exists and place(stack.backend) == where]
    if args[:2] == ("stack", "ls"):
        process.step("`pulumi stack ls` runs", "names of stacks", READ)
        if unread == "the list":
            raise StackError("`pulumi stack ls` did not end within 30 s")
        return [_listed(process, stack) for stack in there]
    if args[:2] == ("stack", "export"):
        name = args[args.index("--stack") + 1]
        process.step("`pulumi stack export` runs", f"state of {name}", READ)
        if unread == "another stack" and (where, name) != (own, process.full_name):
            raise StackError("`pulumi stack export` did not end within 30 s")
        found = next((stack for stack in there if stack.full_name == name), None)
        if found is None:
            raise StackError(f"no stack named {name!r} found")
        return found.exported()
    raise AssertionError(f"the simulated `pulumi` knows no {args}")


def _listed(process: Process, stack: Stack) -> Any:
    """A stack in a list. Pulumi Cloud does not tell the time of an update that still runs."""
    is_updated = any(other.updates(stack.name) for other in process.world.processes)
    hides = is_updated and stack.backend.startswith("http")
    changed = None if hides else repr((stack.provider, sorted(stack.ids()), stack.creating))
    count = len(stack.every_row()) + bool(stack.provider)
    return {"name": stack.full_name, "lastUpdate": changed, "resourceCount": count}
