"""The control calls under `/_emulator`. They need no key, are not counted, and get no faults."""

from __future__ import annotations

from dataclasses import asdict
from math import inf
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request

from pulumi_fal.emulator.faults import Faults
from pulumi_fal.emulator.state import State


async def _machines(request: Request) -> State:
    machines: State = request.app.state.machines
    return machines


async def _faults(request: Request) -> Faults:
    faults: Faults = request.app.state.faults
    return faults


Machines = Annotated[State, Depends(_machines)]
Script = Annotated[Faults, Depends(_faults)]


async def _only_json(request: Request) -> None:
    """Refuse a POST that a page of another site can make a browser send, which is never JSON."""
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and content_type != "application/json":
        raise HTTPException(
            415,
            "A control needs the header `Content-Type: application/json`, even without a body, so "
            "that no web page elsewhere can send it.",
        )


control = APIRouter(prefix="/_emulator", dependencies=[Depends(_only_json)])


@control.get("/report")
async def report(
    machines: Machines, script: Script, known: str = "", log: Annotated[int, Query(ge=0)] = 10_000
) -> dict[str, Any]:
    now, calls = machines.now(), list(machines.log)
    return {
        "calls": machines.calls,
        "creations": machines.creations,
        "deletions": machines.deletions,
        "most_in_flight": machines.most_in_flight,
        "machines": [
            {
                **asdict(machine.seen_at(now)),
                "age": now - machine.created,
                "deleting": machine.gone_at < inf,
            }
            for machine in machines.existing()
        ],
        "unclaimed": sorted(machines.unclaimed(known.split(","))),
        "faults": script.left(),
        "held": script.held,
        "requests": machines.requests,
        "log": [asdict(call) for call in calls[max(0, len(calls) - log) :]],
    }


@control.post("/faults")
async def add_faults(script: Script, lines: list[str]) -> None:
    try:
        for line in lines:
            script.script(line)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


@control.delete("/faults")
async def clear_faults(script: Script) -> None:
    script.clear()


@control.post("/faults/release")
async def release(script: Script) -> None:
    script.release()


@control.post("/machines/{instance_id}/stuck")
async def stuck(machines: Machines, instance_id: str) -> None:
    machines.stuck(instance_id)


@control.post("/machines/{instance_id}/kill")
async def kill(machines: Machines, instance_id: str) -> None:
    machines.kill(instance_id)


@control.post("/machines/{instance_id}/status")
async def status(
    machines: Machines, instance_id: str, status: Annotated[str, Body(embed=True)]
) -> None:
    machines.set_status(instance_id, status)


@control.post("/machines/{instance_id}/hide")
async def hide(
    machines: Machines,
    instance_id: str,
    call: Annotated[Literal["list", "get"], Body()],
    seconds: Annotated[float, Body()],
) -> None:
    machines.hide(instance_id, call, seconds)


@control.post("/clock/advance")
async def advance(machines: Machines, seconds: Annotated[float, Body(embed=True)]) -> None:
    machines.advance(seconds)
