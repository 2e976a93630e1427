"""The provider and the client that ours is compared with do the same work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from benchmarks import direct, naive
from benchmarks.programs import INSTANCE

from pulumi_fal.emulator.server import EmulatorServer


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorServer]:
    for module in (naive, direct):
        monkeypatch.setattr(module, "INTERVAL", 0.02)
    with EmulatorServer(provisioning=0.1, deletion=0.05) as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        yield server


def test_naive_provider(api: EmulatorServer) -> None:
    """The naive provider makes, reads and deletes a machine, and polls for it alone."""
    provider = naive.MachineProvider()
    made = provider.create(dict(INSTANCE))
    assert api.state.alive() == {made.id}
    assert made.outs is not None
    assert (made.outs["status"], made.outs["ssh_key"]) == ("ready", INSTANCE["ssh_key"])
    assert provider.read(made.id, dict(made.outs)).outs == made.outs
    provider.delete(made.id, dict(made.outs))
    assert api.state.alive() == set()
    assert provider.read(made.id, {}).id == ""
    assert (api.state.calls["create"], api.state.calls["list"]) == (1, 0)


def test_direct_client(api: EmulatorServer) -> None:
    """The lower bound is a POST and a DELETE for each machine, and one poll for all."""
    client = direct.Direct(api.env, 8, INSTANCE)
    client.up()
    assert [machine.status for machine in api.state.list()] == ["ready"] * 8
    client.refresh()
    client.destroy()
    assert api.state.alive() == set()
    assert api.state.calls["create"] == api.state.calls["delete"] == 8
    assert api.state.calls["get"] == 0
