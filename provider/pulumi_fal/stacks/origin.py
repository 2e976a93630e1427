"""The identity of a resource beyond its URN: the organization and the backend of its stack."""

from __future__ import annotations

from dataclasses import dataclass, replace

ORGANIZATION_VARIABLE = "FAL_COMPUTE_ORGANIZATION"
"""The environment variable that names the organization if several have a stack of the same name."""

_STATELESS = "urn:pulumi:do::::"
"""The beginning of the URN of a create that is for no stack. No project's name is empty."""


def stateless_urn(type_: str, name: str) -> str:
    """Return the URN by which the create of a machine that no stack gets is recorded."""
    return f"{_STATELESS}{type_}::{name}"


def own_organization(backend_url: str) -> str:
    """Return the organization of a backend that has only one, as all but Pulumi Cloud do."""
    return "" if backend_url.startswith("http") or not backend_url else "organization"


@dataclass(frozen=True)
class Origin:
    """The resource that a create was for. Attributes are "" if unknown."""

    urn: str
    """It contains the project and the stack, too."""
    organization: str = ""
    backend: str = ""

    @property
    def _place(self) -> tuple[str, str]:
        return self.organization, self.backend

    @property
    def stack(self) -> str:
        return self._part(1)

    @property
    def project(self) -> str:
        return self._part(2)

    def _part(self, place: int) -> str:
        # urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME
        parts = self.urn.removeprefix("urn:pulumi:").split("::")
        return parts[place - 1] if len(parts) > 3 else ""

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return self.urn.rpartition("::")[2]

    def may_be(self, other: Origin) -> bool:
        """Whether both may be the same resource: what is known of both is equal."""
        return self.urn == other.urn and all(
            a == b or not a or not b for a, b in zip(self._place, other._place, strict=True)
        )

    def may_share_stack(self, other: Origin) -> bool:
        """Whether both may be in the same stack: what is known of both stacks is equal."""
        same_name = (self.stack, self.project) == (other.stack, other.project)
        return same_name and replace(self, urn=other.urn).may_be(other)

    def may_be_renamed_to(self, other: Origin) -> bool:
        """Whether the stack of `other` may be this one under a later name."""
        mine, others = (self.name, *self._place), (other.name, *other._place)
        return self.urn != other.urn and mine == others

    @property
    def is_stateless(self) -> bool:
        """Whether this is a machine that `pulumi do --stateless` makes, which no stack gets."""
        return self.urn.startswith(_STATELESS)

    @property
    def full_name(self) -> str:
        """The full name of the stack, by which `pulumi` finds it."""
        return f"{self.organization}/{self.project}/{self.stack}"

    @property
    def is_certain(self) -> bool:
        """Whether everything about the resource is known."""
        return bool(self.urn and self.organization and self.backend)

    @property
    def unknown(self) -> list[str]:
        """What is not known about the stack: its "backend", its "organization", or both."""
        return [name for name in ("backend", "organization") if not getattr(self, name)]
