"""The interface through which creates read the state of stacks."""

from __future__ import annotations

from typing import Protocol

from pulumi_fal.stack import Elsewhere, Origin, StackMachine


class Stacks(Protocol):
    """The interface of stack.Stacks, which asks the `pulumi` command about the state of stacks."""

    def origin(self, urn: str, organization: str) -> Origin: ...
    def machines(self, origin: Origin) -> tuple[StackMachine, ...] | None: ...
    def ids(self, origin: Origin) -> frozenset[str] | None: ...
    def is_gone(self, origin: Origin) -> bool | None: ...
    def elsewhere(self, origin: Origin) -> Elsewhere: ...
