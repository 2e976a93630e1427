"""Stacks whose state an earlier version wrote; record_state.py says how they were recorded."""

from __future__ import annotations

import json
import re
from math import inf
from typing import Any

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import Machine

from ..fakes import KEY
from .harness import Stack
from .record_state import ACCOUNT, ENDPOINT, RECORDED, program
from .recovery import PATIENCE, finish, unfinished

Resources = dict[str, dict[str, Any]]


@pytest.fixture
def recorded(stack: Stack, emulator: EmulatorServer) -> Resources:
    """The machines of the recorded state, once the stack and the emulator have them.

    Only the unfinished one isn't ready. The stack's program is the one that made the state.
    """
    text = RECORDED.read_text().replace(ENDPOINT, emulator.url)
    text = text.replace(ACCOUNT, Settings(emulator.url, KEY, "").account)
    checkpoint = json.loads(stack.state_file.read_text())
    checkpoint["checkpoint"]["latest"] = json.loads(text)["deployment"]
    stack.state_file.write_text(json.dumps(checkpoint))
    resources = by_name(stack)
    for resource in resources.values():
        put_in(emulator, resource)
    (stack.project / "__main__.py").write_text(program(resources["imported"]["id"]))
    stack.env |= PATIENCE
    return resources


def test_earlier_version(recorded: Resources, stack: Stack, emulator: EmulatorServer) -> None:
    """A refresh changes only what the API says anew, `up` only finishes the unfinished machine."""
    stack.refresh()
    refreshed = by_name(stack)
    for name in ("ready", "imported", "unfinished"):
        assert remembered(refreshed[name]) == remembered(recorded[name]), name
    there = emulator.state.get(recorded["unawaited"]["id"])
    news = {"ip": there.ip, "sector": there.sector, "status": "ready"}
    assert remembered(refreshed["unawaited"]) == remembered(recorded["unawaited"]) | news
    assert [resource["urn"] for resource in unfinished(stack)] == [stack.urn("unfinished")]

    finish(emulator.state)
    assert re.search(r"~ 1 updated\n +4 unchanged", stack.up().output)
    assert unfinished(stack) == []
    outputs = by_name(stack)["unfinished"]["outputs"]
    assert (outputs["status"], "unfinished" in outputs) == ("ready", False)
    assert emulator.state.calls["create"] == emulator.state.calls["delete"] == 0


def put_in(emulator: EmulatorServer, resource: dict[str, Any]) -> None:
    outputs = resource["outputs"]
    ip = outputs.get("ip")
    emulator.state.machines[resource["id"]] = Machine(
        id=resource["id"],
        requested=NewInstance(
            outputs["instance_type"], outputs["ssh_key"], resource["inputs"].get("sector")
        ),
        chosen_sector=outputs.get("sector") or "sector_3",
        ip=ip if isinstance(ip, str) else "198.18.0.9",  # else it is encrypted, or not known yet
        created=emulator.state.now(),
        provisioning=inf if outputs.get("unfinished") else 0,
        ip_at=1,
        hidden_until={"list": 0},
    )


def by_name(stack: Stack) -> Resources:
    return {resource["urn"].rpartition("::")[2]: resource for resource in stack.resources()}


def remembered(resource: dict[str, Any]) -> dict[str, Any]:
    """What state holds of a machine, but for the ip that is encrypted anew each time."""
    outputs = dict(resource["outputs"])
    if isinstance(outputs.get("ip"), dict):
        assert outputs.pop("ip")["ciphertext"]
    return outputs
