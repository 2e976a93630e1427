"""What the dynamic host's adapter does by itself, and the session that every host has.

tests/plugin drives both as the engine does.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pulumi.output import Unknown
from pulumi.runtime import rpc

from pulumi_fal.errors import Interrupted
from pulumi_fal.hosts import session
from pulumi_fal.machines.account import Account
from pulumi_fal.provider import ComputeInstanceProvider

from ..fakes import ED25519, EIGHT, ID, settings

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}


@pytest.mark.parametrize("unknown", [Unknown(), rpc.UNKNOWN])  # type: ignore[no-untyped-call]
def test_unknown(unknown: object) -> None:
    """The SDK passes on the one that the engine sent, and the engine has to get the same."""
    news = {**INPUTS, "ssh_key": unknown}
    checked = ComputeInstanceProvider().check({}, news)
    assert (checked.inputs, checked.failures) == (news, [])
    assert ComputeInstanceProvider().diff(ID, INPUTS, news).replaces == ["ssh_key"]


def test_sdks_properties() -> None:
    """The provider's serialized form is no input, and no output either."""
    sdks = {"__provider": "serialized"}
    assert ComputeInstanceProvider().check({}, {**INPUTS, **sdks}).inputs == INPUTS
    state = {**INPUTS, "status": "ready"}
    updated = ComputeInstanceProvider().update(
        ID, {**state, "__provider": "serialized"}, {**INPUTS, "__provider": "serialized"}
    )
    assert updated.outs == state


def test_failure() -> None:
    """The engine would print the property's value, which may be a private key."""
    (failure,) = ComputeInstanceProvider().check({}, {**INPUTS, "ssh_key": "hunter2"}).failures
    assert failure.property == ""
    assert failure.reason.startswith("ssh_key does not start with a known key type")


def test_no_attributes() -> None:
    """A provider with attributes would have them pickled into every state."""
    provider = ComputeInstanceProvider()
    provider.check({}, INPUTS)
    assert vars(provider) == {}


def test_shared_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls with machines of their own would not know of each other's creates."""
    one = session.Session(settings=settings, notify=lambda message: None, warn=lambda message: None)
    seen: list[Account] = []
    second = threading.Thread(target=lambda: seen.append(one.machines))

    def slow(*args: Any, **others: Any) -> Account:
        if not second.is_alive():
            second.start()
            second.join(0.05)
        return Account(*args, **others)

    monkeypatch.setattr(session, "Account", slow)
    seen.append(one.machines)
    second.join()
    assert seen[0] is seen[1]


def test_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the engine has died, every wait ends, such as one for capacity."""
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path))
    ended = session.Session(
        settings=settings, notify=lambda message: None, warn=lambda message: None
    )
    ended.end()
    with pytest.raises(Interrupted):
        ended.clock.check()
