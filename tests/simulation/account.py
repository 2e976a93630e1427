"""The API's side: the emulator's machines, its faults, and the truth about who made what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from pulumi_fal import errors
from pulumi_fal.api.models import Instance
from pulumi_fal.api.request import Request
from pulumi_fal.emulator import faults
from pulumi_fal.emulator.faults import Fault, Faults
from pulumi_fal.emulator.machine import Machine
from pulumi_fal.emulator.state import NoCapacityError, State, UnknownMachineError

from .turns import Turns

OUTCOMES = {
    **{name: each for name, each in faults.OUTCOMES.items() if not each.held},
    "unsent": Fault("unsent", "the request never leaves", taken=False, status=None, body=""),
    "429_for_long": faults.fault("429", retry_after=30),
    "taken_late": Fault("taken_late", "taken after a while", True, 200, None, seconds=40.0),
}
"""What a call may meet, by name."""


@dataclass(frozen=True)
class Owner:
    """A resource of a stack: what no server knows of a machine, and we do here."""

    stack: str
    name: str


class Account:
    """One account, which all stacks and other people share."""

    def __init__(self, turns: Turns) -> None:
        self.state = State(turns.time, provisioning=10.0, deletion=3.0)
        self.faults = Faults()
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
            kind = request.call
            step(f"{kind} is sent")
            fault = self.faults.take(kind)
            if fault is not None and fault.name == "taken_late":
                self._turns.block(lambda: False, fault.seconds)
                step("the request is under way")
            problem: errors.APIError | None = None
            answer: Any = None
            is_taken = fault is None or fault.taken
            if is_taken:
                try:
                    answer = self._serve(request, owner, account)
                except UnknownMachineError:
                    problem = _refused(request, 404)
                except NoCapacityError:
                    problem = _refused(request, 400)
            step(f"{kind} is {'taken' if is_taken else 'refused'}")
            if fault is not None and (fault.name, kind) == ("lapse", "list"):
                return []
            if fault is not None:
                if fault.name in ("slow", "late"):
                    self._turns.block(lambda: False, fault.seconds)
                    step("the answer is under way")
                problem = _failure(request, fault) or problem
            if problem is not None:
                raise problem
            return answer

        return send

    def _serve(self, request: Request[Any], owner: Callable[[], Owner], account: str) -> Any:
        body, instance_id = request.body or {}, request.instance_id or ""
        if request.call == "list":
            return [dict(vars(each)) for each in self.state.list(account)]
        if request.call == "get":
            return dict(vars(self.state.get(instance_id, account)))
        if request.call == "delete":
            self.on_delete(instance_id)
            self.state.delete(instance_id, account)
            return None
        made: Instance = self.state.create(
            body["instance_type"], body["ssh_key"], body.get("sector"), account
        )
        if self.reads_lag:
            self.state.hide(made.id, "get", self.state.list_lag)
        self.made_by[made.id] = owner()
        self.on_made(made.id)
        return dict(vars(made))


def _failure(request: Request[Any], fault: Fault) -> errors.APIError | None:
    """What transport.py makes of a fault; None where the right answer comes."""
    if fault.status is None:
        return request.error(errors.UnreachableError, fault.says, sent=fault.name != "unsent")
    if fault.status != 200:
        return _refused(request, fault.status, fault.retry_after)
    if fault.body is None or (not request.json_expected and not fault.body.startswith("<")):
        return None
    return request.error(errors.UnusableAnswerError, fault.says, status=200)


def _refused(request: Request[Any], status: int, retry_after: int | None = None) -> errors.APIError:
    known: dict[str, Any] = {"status": status}
    if retry_after is not None:
        known["retry_after"] = float(retry_after)
    if status in (401, 403):
        kind: type[errors.APIError] = errors.AuthenticationError
    elif 300 <= status < 400:
        kind = errors.UnusableAnswerError
    elif status >= 500:
        kind = errors.ServerError
    else:
        kind = {
            404: errors.NotFoundError,
            409: errors.ConflictError,
            429: errors.RateLimitedError,
        }.get(status, errors.InvalidRequestError)
    return request.error(kind, "as simulated", **known)
