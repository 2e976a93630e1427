"""The session that every host has."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pulumi_fal.hosts import session
from pulumi_fal.machines.process import Machines

from ..fakes import settings


def test_calls_that_arrive_at_once_share_their_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls with machines of their own would not know of each other's creates."""
    one = session.Session(settings=settings, notify=lambda message: None, warn=lambda message: None)
    seen: list[Machines] = []
    second = threading.Thread(target=lambda: seen.append(one.machines))

    def slow(*args: Any, **others: Any) -> Machines:
        if not second.is_alive():
            second.start()
            second.join(0.05)
        return Machines(*args, **others)

    monkeypatch.setattr(session, "Machines", slow)
    seen.append(one.machines)
    second.join()
    assert seen[0] is seen[1]
