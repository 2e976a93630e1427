"""The API's side: the emulator's machines, its faults, and the truth about who made what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from pulumi_fal.api.dialects import Request
from pulumi_fal.emulator import faults
from pulumi_fal.emulator.faults import Fault
from pulumi_fal.emulator.state import Machine
from pulumi_fal.errors import APIError

from ..fakes import UNSENT, FakeApi, arrived, refusal
from .journal import READ, WRITTEN

if TYPE_CHECKING:
    from .plugin import Process
    from .world import World

Hiding = Literal["list", "get"]
"""The calls that may lack a machine which exists."""
LATE_SECONDS = 60.0
"""How long after a gateway's answer the API makes a machine."""

OUTCOMES = {
    **{name: fault for name, fault in faults.OUTCOMES.items() if not fault.held},
    UNSENT.name: UNSENT,
    "429_for_long": faults.fault("429", retry_after=30),
    "taken_late": Fault("taken_late", "taken after a while", True, 200, seconds=40.0),
    "504_then_made": Fault(
        "504_then_made", "a gateway's 504, and the API finishes a minute later", True, 504
    ),
    **{
        f"{name}_but_made": replace(
            faults.OUTCOMES[name], name=f"{name}_but_made", says="a refusal that lies", taken=True
        )
        for name in ("404", "409", "no_room")
    },
}


@dataclass(frozen=True)
class Owner:
    """A resource of a stack: what no server knows of a machine, and we do here."""

    stack: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} in stack {self.stack}"


class Account(FakeApi):
    """One account, which all stacks and other people share."""

    def __init__(self, world: World) -> None:
        super().__init__(world.time, provisioning=10.0, deletion=3.0)
        self._world = world
        self.made_by: dict[str, Owner] = {}
        """Machines of ours, by id. What isn't here is somebody else's."""
        self.on_nothing: Callable[[], None] = lambda: None
        """Called when a create was refused, or was answered with a machine that it made before."""
        self.reads_lag = False
        """Whether a new machine is unknown to GET, too, for as long as the list lacks it."""
        self.shown_after = 0.0
        """For how many seconds after its answer a new machine is neither listed nor known to GET.
        Without an answer, or if it has no id or can't be written down, nobody could know of a
        machine that appears so late."""
        self._hidden_long: set[str] = set()
        self.met: set[tuple[str, str]] = set()
        """The kinds of calls, and the faults that they met in the commands that run now."""
        self.late: set[str] = set()
        """Machines that the API made after a gateway had answered for it."""
        self.lied: set[str] = set()
        """Machines that the API made although it refused their create."""
        self._glitches: dict[str, tuple[float, float]] = {}
        """By machine, from when to when the last glitch hides it from lists and from GET."""
        self.state.same_account("key", "rotated")

    def machines_of(self, owner: Owner) -> set[str]:
        """The machines of a resource that run, and that nobody has asked to delete."""
        return {
            instance_id
            for instance_id, made_by in self.made_by.items()
            if made_by == owner and self.runs(instance_id)
        }

    def runs(self, instance_id: str) -> bool:
        machine = self.state.machines.get(instance_id)
        return machine is not None and machine.gone_at == inf

    def not_made_yet(self, at: float = inf) -> set[str]:
        """The machines that the API has yet to make, now or at a time: nobody can know of them."""
        now = min(at, self.state.now())
        return {late for late in self.late if now < self.machine(late).hidden_until["list"]}

    def is_new(self, instance_id: str) -> bool:
        """Whether no list has had the machine yet."""
        is_hidden = self.state.now() < self.machine(instance_id).hidden_until["list"]
        return is_hidden and instance_id not in self._glitches

    def glitch(self, ids: Iterable[str], seconds: float, calls: Sequence[Hiding]) -> None:
        """Hide machines for a while that the API has shown, from lists, from GET, or from both."""
        now = self.state.now()
        for instance_id in self.made_by.keys() & set(ids) - self.late:
            if self.runs(instance_id) and self.machine(instance_id).hidden_until["list"] <= now:
                self._glitches[instance_id] = (now, now + seconds if len(calls) > 1 else now)
                for call in calls:
                    self.state.hide(instance_id, call, seconds)

    def show_soon(self, known: Set[str]) -> None:
        """Show at once what would be shown long after its answer, and whose id nobody knows."""
        for instance_id in filter(self.runs, self._hidden_long - self._glitches.keys() - known):
            self.machine(instance_id).hidden_until.update(list=0.0, get=0.0)

    def end_glitches(self) -> None:
        for instance_id in self._glitches:
            self.machine(instance_id).hidden_until.update(list=0.0, get=0.0)
        self._glitches.clear()

    @property
    def has_glitches(self) -> bool:
        return bool(self._glitches)

    def lacked(self, instance_id: str) -> float:
        """For how many seconds the last glitch has hidden a machine from lists and from GET."""
        since, until = self._glitches.get(instance_id, (0.0, 0.0))
        return min(until, self.state.now()) - since

    def was_shown(self, instance_id: str) -> bool:
        """Whether a list or a GET shows a machine, or did before a glitch."""
        return self.shows(instance_id) or instance_id in self._glitches

    def shows(self, instance_id: str, seconds: float = 0.0) -> bool:
        """Whether a list or a GET shows a machine now, and has done so for some seconds."""
        hidden = self.machine(instance_id).hidden_until
        shown_from = min(hidden.get(call, 0.0) for call in ("list", "get"))
        return self.runs(instance_id) and shown_from + seconds <= self.state.now()

    def machine(self, instance_id: str) -> Machine:
        return self.state.machines[instance_id]

    def answer(self, request: Request[Any], process: Process) -> Any:
        """Answer a process, which has a step before and after its request is taken."""
        changes = request.kind in ("create", "delete")
        owner = self._world.call().owner
        touched = request.instance_id or ("*" if request.kind == "list" else f"of {owner}")
        process.step(f"{request.kind} is sent", f"machine {touched}", WRITTEN if changes else READ)
        fault = self.faults.take(request.kind)
        if fault is not None:
            self.met.add((request.kind, fault.name))
        if fault is not None and fault.name == "taken_late":
            self._world.turns.block(lambda: False, fault.seconds)
            process.step("the request is under way")
        is_taken = fault is None or fault.taken
        made = len(self.made_by)
        account = self.state.account_of(process.conditions.key)
        outcome = self._serve_for(request, owner, account, fault) if is_taken else None
        if request.kind == "create" and len(self.made_by) == made:
            self.on_nothing()
        process.step(f"{request.kind} is {'taken' if is_taken else 'refused'}")
        if fault is not None and fault.name in ("slow", "late"):
            self._world.turns.block(lambda: False, fault.seconds)
            process.step("the answer is under way")
        answer = arrived(request, fault, outcome)
        is_told = isinstance(answer, dict) and self.runs(answer.get("id", ""))
        if request.kind == "create" and is_told and self.shown_after:
            self._hidden_long.add(answer["id"])
            self._hide(answer["id"], self.shown_after)
        if request.kind == "delete" and isinstance(outcome, APIError):
            raise outcome  # a 200 for a DELETE that does nothing is beyond any client
        return answer

    def _serve_for(
        self, request: Request[Any], owner: Owner, account: str, fault: Fault | None
    ) -> Any | APIError:
        call = self._world.call()
        if request.kind == "delete":
            self._world.laws.deleting(call, request.instance_id or "")
        outcome = self.serve(request, account)
        if request.kind != "create" or isinstance(outcome, APIError):
            return outcome
        if outcome["id"] in self.not_made_yet():
            return refusal(409, "the same create is in progress", request)
        if outcome["id"] not in self.made_by:  # else it is the answer that was kept
            if self.reads_lag:
                self.state.hide(outcome["id"], "get", self.state.list_lag)
            self.made_by[outcome["id"]] = owner
            if fault is not None and fault.name.endswith("_but_made"):
                self.lied.add(outcome["id"])
            if fault is not None and fault.name == "504_then_made":
                self.late.add(outcome["id"])
                self._hide(outcome["id"], LATE_SECONDS)
            self._world.laws.made(call, outcome["id"])
        return outcome

    def _hide(self, instance_id: str, seconds: float) -> None:
        for call in ("list", "get"):
            self.state.hide(instance_id, call, seconds)
