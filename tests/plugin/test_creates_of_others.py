"""Creates that another process has begun, as each host tells `resource` what the engine knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import grpc
import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, wait_until
from . import native
from .harness import URN, Plugin

DYNAMIC = {"instance_type": EIGHT, "ssh_key": ED25519}
NATIVE = {"instanceType": EIGHT, "sshKey": ED25519}
HOSTS = [
    pytest.param("pulumi.dynamic", lambda plugin: plugin, DYNAMIC, URN, id="dynamic"),
    pytest.param(
        "pulumi_fal.native",
        lambda plugin: native.Provider(plugin.channel),
        NATIVE,
        native.URN,
        id="native",
    ),
]
WITH_STATE = """
import runpy, sys
from pulumi_fal.stacks.cache import Stacks
from pulumi_fal.stacks.state import Stack, StackMachine
own = Stack("organization/proj/dev", machines=(StackMachine({id!r}, {urn!r}),))
Stacks.own = lambda self, origin: own
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""
"""A host whose stack has a machine in state."""


@pytest.mark.parametrize("module, host, inputs, urn", HOSTS)
def test_a_machine_in_state_is_replaced_if_the_engine_has_checked_its_inputs_before(
    start: Callable[..., Plugin],
    emulator: EmulatorServer,
    module: str,
    host: Callable[[Plugin], Any],
    inputs: Mapping[str, Any],
    urn: str,
) -> None:
    """It does for `--replace`, which brings no diff, and has no old inputs of a new resource."""
    first = host(start(launcher=["-m", module]))
    first.check(inputs)
    made = first.create(inputs).id
    code = WITH_STATE.format(module=module, id=made, urn=urn)
    second = host(start(launcher=["-c", code]))
    second.check(inputs)
    with pytest.raises(grpc.RpcError, match=f"`pulumi up` of this stack has just made {made}"):
        second.create(inputs)
    second.check(inputs, inputs)
    assert {made, second.create(inputs).id} == emulator.state.alive()


def test_the_program_tells_the_aliases_of_a_resource(
    start: Callable[..., Plugin], emulator: EmulatorServer
) -> None:
    """The engine does not. They are no inputs, so state never has them."""
    plugin, earlier = start(), f"{URN}-earlier"
    plugin.check(DYNAMIC)
    emulator.state.provisioning = inf
    create = plugin.create_later(DYNAMIC, urn=earlier)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    plugin.kill()
    assert create.exception()
    (machine,) = emulator.state.machines.values()
    machine.provisioning = 0
    plugin = start()
    checked = plugin.check({**DYNAMIC, "__aliases": [earlier]})
    assert "__aliases" not in checked.inputs
    assert plugin.create(DYNAMIC).id == machine.id
