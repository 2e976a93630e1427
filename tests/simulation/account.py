"""The API's side: the emulator's machines, its faults, and the truth about who made what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from pulumi_fal.api.request import Request
from pulumi_fal.emulator import faults
from pulumi_fal.emulator.faults import Fault
from pulumi_fal.emulator.state import Machine
from pulumi_fal.errors import APIError

from ..fakes import UNSENT, FakeApi, arrived
from .turns import Turns

OUTCOMES = {
    **{name: each for name, each in faults.OUTCOMES.items() if not each.held},
    UNSENT.name: UNSENT,
    "429_for_long": faults.fault("429", retry_after=30),
    "taken_late": Fault("taken_late", "taken after a while", True, 200, seconds=40.0),
}
"""What a call may meet, by name."""


@dataclass(frozen=True)
class Owner:
    """A resource of a stack: what no server knows of a machine, and we do here."""

    stack: str
    name: str


class Account(FakeApi):
    """One account, which all stacks and other people share."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(turns.time, provisioning=10.0, deletion=3.0)
        self.made_by: dict[str, Owner] = {}
        """Machines of ours, by id. What isn't here is somebody else's."""
        self.on_made: Callable[[str], None] = lambda instance_id: None
        self.on_delete: Callable[[str], None] = lambda instance_id: None
        self.reads_lag = False
        """Whether a new machine is unknown to GET, too, for as long as the list lacks it."""
        self._turns = turns
        self.state.same_account("key", "rotated")

    def machines_of(self, owner: Owner) -> set[str]:
        """Those that run, and that nobody has asked to delete."""
        return {
            each for each, made_by in self.made_by.items() if made_by == owner and self.runs(each)
        }

    def runs(self, instance_id: str) -> bool:
        machine = self.state.machines.get(instance_id)
        return machine is not None and machine.gone_at == inf

    def machine(self, instance_id: str) -> Machine:
        return self.state.machines[instance_id]

    def wire(
        self, step: Callable[[str], None], owner: Callable[[], Owner], key: str
    ) -> Callable[..., Any]:
        """A client's `send` for a process: before and after a request is taken it has a step."""
        account = self.state.account_of(key)

        def send(request: Request[Any], timeout: float | None = None) -> Any:
            step(f"{request.kind} is sent")
            fault = self.faults.take(request.kind)
            if fault is not None and fault.name == "taken_late":
                self._turns.block(lambda: False, fault.seconds)
                step("the request is under way")
            is_taken = fault is None or fault.taken
            outcome = self._serve_for(request, owner, account) if is_taken else None
            step(f"{request.kind} is {'taken' if is_taken else 'refused'}")
            if fault is not None and fault.name in ("slow", "late"):
                self._turns.block(lambda: False, fault.seconds)
                step("the answer is under way")
            answer = arrived(request, fault, outcome)
            if request.kind == "delete" and isinstance(outcome, APIError):
                raise outcome  # a 200 for a DELETE that does nothing is beyond any client
            return answer

        return send

    def _serve_for(
        self, request: Request[Any], owner: Callable[[], Owner], account: str
    ) -> Any | APIError:
        if request.kind == "delete":
            self.on_delete(request.instance_id or "")
        outcome = self.serve(request, account)
        if request.kind != "create" or isinstance(outcome, APIError):
            return outcome
        if outcome["id"] not in self.made_by:  # else it is the answer that was kept
            if self.reads_lag:
                self.state.hide(outcome["id"], "get", self.state.list_lag)
            self.made_by[outcome["id"]] = owner()
            self.on_made(outcome["id"])
        return outcome
