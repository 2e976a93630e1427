"""The stacks of a small Pulumi Cloud: what they hold, who updates them. It knows no HTTP."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

Name = tuple[str, str, str]
"""A stack's organization, project and name."""


class RefusedError(Exception):
    """A request that the service refuses, with the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class CloudStack:
    """A stack with its state."""

    tags: dict[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    version: int = 0
    deployment: dict[str, Any] = field(default_factory=dict)
    """The latest checkpoint; empty before the first."""
    update: str = ""
    """The id of the last update, which may be in progress."""
    is_locked: bool = False
    """Whether that update is in progress."""


class Stacks:
    """All stacks of all organizations. Every method may be called from any thread."""

    def __init__(self, user: str, organizations: tuple[str, ...]) -> None:
        """`user` has an organization of that name, and is a member of the other organizations."""
        self.user = user
        self.organizations = (user, *organizations)
        self.stacks: dict[Name, CloudStack] = {}
        self._previews: set[str] = set()
        self.lock = threading.RLock()

    def get(self, name: Name) -> CloudStack:
        """Return the stack. Raises RefusedError if there is none."""
        try:
            return self.stacks[name]
        except KeyError:
            raise RefusedError(404, "Not Found: Stack not found") from None

    def create(self, name: Name, tags: dict[str, str]) -> None:
        """Create an empty stack."""
        if name[0] not in self.organizations:
            raise RefusedError(404, "Not Found: Organization not found")
        if name in self.stacks:
            raise RefusedError(409, "Conflict: Stack already exists")
        self.stacks[name] = CloudStack(tags)

    def delete(self, name: Name) -> None:
        """Delete the stack."""
        self.get(name)
        del self.stacks[name]

    def begin(self, name: Name, *, is_preview: bool) -> str:
        """Begin an update, or a preview of one; its id. Only one update can be in progress."""
        stack, update = self.get(name), str(uuid.uuid4())
        if is_preview:
            self._previews.add(update)
            return update
        if stack.is_locked:
            raise RefusedError(
                409, "Conflict: Another update is currently in progress.\nTo learn more about it..."
            )
        stack.update, stack.is_locked = update, True
        stack.version += 1
        return update

    def save(self, name: Name, update: str, checkpoint: dict[str, Any]) -> None:
        """Save a checkpoint of the update. Raises RefusedError if it is no longer in progress."""
        if update in self._previews:
            return
        stack = self.get(name)
        if update != stack.update or not stack.is_locked:
            raise RefusedError(403, "Forbidden: The update is no longer in progress")
        stack.deployment = checkpoint

    def end(self, name: Name, update: str) -> None:
        """End an update, because it is complete or because somebody cancels it."""
        stack = self.get(name)
        if update == stack.update:
            stack.is_locked = False

    def resources(self, name: Name) -> list[dict[str, Any]]:
        """Return the resources in the stack's state."""
        deployment = self.get(name).deployment.get("deployment") or {}
        resources: list[dict[str, Any]] = deployment.get("resources") or []
        return resources
