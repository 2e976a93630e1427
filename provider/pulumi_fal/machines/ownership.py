"""Whose word counts: only the account that made a machine can tell that it is gone."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Protocol

from pulumi_fal.api.settings import Home
from pulumi_fal.errors import ElsewhereError


class Located(Protocol):
    """A machine, and the home that it was last seen from."""

    @property
    def id(self) -> str: ...
    @property
    def home(self) -> Home: ...


class Ownership:
    """Which machines belong to the account of the key that is set, under any of its keys."""

    def __init__(self, home: Home, key_source: str, listed: Callable[[], Container[str]]) -> None:
        """`listed`: the ids of the machines that the key sees; the list may be some seconds old."""
        self.home = home
        self._key_source = key_source
        self._listed = listed
        self._own = {"", home.account, home.endpoint}

    def is_own(self, home: Home) -> bool:
        """Whether machines of that home are this account's, for all that is known so far.

        A home without account and endpoint counts as its own.
        """
        return home.key in self._own

    def sees(self, home: Home, machines: Callable[[], Iterable[Located]]) -> bool:
        """Whether the key sees the machines of that home: its own, or one of a rotated key.

        Ids are unique, so where the key sees one of the `machines` of that home, both keys are of
        the same account. That says nothing of another endpoint, where ids may be others.
        """
        is_here = home.endpoint in ("", self.home.endpoint)
        if is_here and not self.is_own(home):
            listed = self._listed()
            if any(each.id in listed for each in machines() if each.home.key == home.key):
                self._own.add(home.key)
        return self.is_own(home)

    def refuse_elsewhere(
        self, instance_id: str, home: Home, machines: Callable[[], Iterable[Located]]
    ) -> None:
        """Raise ElsewhereError where a machine that isn't seen may be another account's.

        `machines` are those that may show that the account is the same.
        """
        if not self.sees(home, machines):
            raise self._elsewhere(instance_id, home)

    def _elsewhere(self, instance_id: str, home: Home) -> ElsewhereError:
        if home.endpoint not in ("", self.home.endpoint):
            return ElsewhereError(
                instance_id,
                f"Machine {instance_id} was last seen at {home.endpoint}, and the endpoint that is "
                f"set now, {self.home.endpoint}, does not know it. It may still run and bill, and "
                "it stays in state. Set FAL_COMPUTE_ENDPOINT or fal:endpoint to where it was seen, "
                "or FAL_COMPUTE_API or fal:api to the API that it was made with; if it is gone "
                "there for good, `pulumi state delete` drops it.",
            )
        return ElsewhereError(
            instance_id,
            f"Machine {instance_id} was last seen with the key of another account "
            f"({home.account}), and the key that is set now (account {self.home.account}, from "
            f"{self._key_source}) does not see it. It may still run and bill, and it stays in "
            "state. Set a key of the account that it was made with, as FAL_ADMIN_API_KEY or with "
            "`pulumi config set --secret fal:apiKey`; `pulumi-fal doctor` prints the account of "
            "the key that is set. If the machine is gone for good, `pulumi state delete` drops it.",
        )
