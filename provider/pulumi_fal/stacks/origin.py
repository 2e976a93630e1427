"""The resource that a create is for, and how its stack is recognized.

A URN has the names of the stack and the project, which a rename changes. The id of the provider
resource stays the same for as long as the stack has machines: through renames, moves to another
backend, and exports with imports. So equal ids are the same stack. Other ids prove nothing, because
a stack that was destroyed gets another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

UNKNOWN_ID = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What the engine sends in place of an id that a preview does not know yet."""
ONLY_ORGANIZATION = "organization"
"""The organization of all stacks in backends other than Pulumi Cloud."""


def without_user(url: str) -> str:
    """Return a URL without the user and the password in it, and without a slash at the end."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


@dataclass(frozen=True)
class Origin:
    """A resource. `provider` and `backend` are "" if they are not known."""

    urn: str
    """It contains the project and the stack, too."""
    provider: str = ""
    """The id of the provider resource in the stack's state."""
    backend: str = ""
    """The URL of the backend in which to look for the stack, without a user and a password."""

    @property
    def stack(self) -> str:
        return self._part(1)

    @property
    def project(self) -> str:
        return self._part(2)

    @property
    def names(self) -> tuple[str, str]:
        """The names of the stack and the project, which a rename changes."""
        return self.stack, self.project

    def _part(self, place: int) -> str:
        # urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME
        parts = self.urn.removeprefix("urn:pulumi:").split("::")
        return parts[place - 1] if len(parts) > 3 else ""

    @property
    def name(self) -> str:
        """The resource's name in the program, which may contain colons."""
        return self.urn.split("::", 3)[-1]

    @property
    def path(self) -> str:
        """The part of the URN that a rename of the stack does not change: types and name."""
        return self.urn.split("::", 2)[-1]

    def moved(self, full_name: str, backend: str) -> Origin:
        """Return the same resource in a stack with another full name, or in another backend."""
        *_, project, stack = ("", self.project, *full_name.split("/")[-2:])
        return Origin(f"urn:pulumi:{stack}::{project}::{self.path}", "", backend)

    def is_in(self, full_name: str) -> bool:
        """Whether a stack with this full name, ORGANIZATION/PROJECT/STACK, has the URN's names.

        A file backend with the oldest layout has no projects, and so no full names.
        """
        names = full_name.split("/")
        return names[-2:] == [self.project, self.stack] or names == [self.stack]
