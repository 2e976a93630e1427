"""Decides whether the current key can show that a machine is gone: only its own account can."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Protocol

from pulumi_fal.api.settings import AccountId, Settings
from pulumi_fal.errors import ElsewhereError


class Located(Protocol):
    """A machine, with the endpoint and the account that it was last seen with."""

    @property
    def id(self) -> str: ...
    @property
    def account_id(self) -> AccountId: ...


class Ownership:
    """Knows which machines belong to the account of the current key, including its older keys."""

    def __init__(self, settings: Settings, listed: Callable[[], Container[str]]) -> None:
        """`listed` returns the ids of the machines that the key sees, possibly some seconds old."""
        self.account_id = settings.account_id
        self._settings = settings
        self._listed = listed
        self._own = self.account_id.own_keys

    def is_own(self, other: AccountId) -> bool:
        """Whether machines with that AccountId are known to belong to this account.

        An AccountId without account and endpoint counts as this account's.
        """
        return other.key in self._own

    def sees(self, other: AccountId, machines: Callable[[], Iterable[Located]]) -> bool:
        """Whether the key sees the machines with that AccountId: its own, or a rotated key's.

        Machine ids are unique, so if the key sees any of those `machines` that have the AccountId,
        both keys belong to the same account. That says nothing about another endpoint, which may
        use other ids.
        """
        is_here = other.endpoint in ("", self.account_id.endpoint)
        if is_here and not self.is_own(other):
            listed = self._listed()
            if any(
                machine.id in listed
                for machine in machines()
                if machine.account_id.key == other.key
            ):
                self._own.add(other.key)
        return self.is_own(other)

    def refuse_elsewhere(
        self, instance_id: str, other: AccountId, machines: Callable[[], Iterable[Located]]
    ) -> None:
        """Raise ElsewhereError if a machine that is not seen may belong to another account.

        `machines` returns the machines that can show that both keys belong to the same account.
        """
        if not self.sees(other, machines):
            raise self._elsewhere(instance_id, other)

    def _elsewhere(self, instance_id: str, other: AccountId) -> ElsewhereError:
        declared = self._settings.provider
        if other.endpoint not in ("", self.account_id.endpoint):
            way_out = (
                f"Give the provider {declared!r} in the program the endpoint where it was last "
                "seen, or the api that it was made with, and run `pulumi up`."
                if declared
                else "Set FAL_COMPUTE_ENDPOINT or fal:endpoint to the endpoint where it was last "
                "seen, or FAL_COMPUTE_API or fal:api to the API that it was made with."
            )
            return ElsewhereError(
                instance_id,
                f"Machine {instance_id} was last seen at {other.endpoint}, and the endpoint that "
                f"is set now, {self._settings.endpoint}, does not know it. It may still run and "
                f"bill, and it stays in state.\n{way_out}\nIf it no longer exists there, remove "
                "it from state with `pulumi state delete`.",
            )
        then = (
            ", and run `pulumi up`"
            if declared
            else "; `pulumi-fal doctor` prints the account of the key that is set"
        )
        return ElsewhereError(
            instance_id,
            f"Machine {instance_id} was last seen with the key of another account "
            f"({other.account}), and the key that is set now (account {self._settings.account}, "
            f"from {self._settings.key_source}) does not see it. It may still run and bill, and it "
            "stays in state.\nSet a key of the account that it was made with, "
            f"{self._settings.set_key}{then}.\nIf the machine no longer exists, remove it from "
            "state with `pulumi state delete`.",
        )
