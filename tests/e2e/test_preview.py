"""A preview costs nothing and asks nobody."""

from __future__ import annotations

import socket
from math import inf

from pulumi_fal.emulator.server import EmulatorServer

from .harness import OTHER_SSH_KEY, Stack, machine, wait_until
from .recovery import entries, finish


def test_a_preview_needs_neither_key_nor_network(stack: Stack, emulator: EmulatorServer) -> None:
    """Of a new stack and of a changed one: as in a CI job for pull requests."""
    online = dict(stack.env)
    stack.env = offline(online)
    assert "2 to create" in stack.preview().output
    stack.env = online
    stack.up()
    calls = dict(emulator.state.calls)
    stack.env = offline(online)
    stack.preview("--expect-no-changes")
    stack.write(machine(ssh_key=OTHER_SSH_KEY))
    assert "1 to replace" in stack.preview().output
    assert emulator.state.calls == calls


def test_a_preview_beside_an_up_says_nothing_of_its_machines(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """One that is awaited, and one that is ready and in state: neither is anybody's concern."""
    emulator.state.provisioning = inf
    stack.write(machine("ready"), machine("awaited", instance_type="gpu_8x_h100_sxm5"))
    up = stack.start("up")
    wait_until(lambda: emulator.state.creations == 2)
    for each in emulator.state.existing():
        if each.instance_type == "gpu_1x_h100_sxm5":
            each.provisioning = 0
    wait_until(lambda: len(stack.state_ids()) == 1)
    assert len(entries(stack)) == 2
    beside = stack.preview()
    assert "1 to create" in beside.output
    assert "warning" not in beside.output
    finish(emulator.state)
    assert up.wait().exit_code == 0
    assert stack.state_ids() == emulator.state.alive()


def test_a_preview_with_unknown_inputs_succeeds(stack: Stack, emulator: EmulatorServer) -> None:
    """A key that another resource makes is not known before it is made."""
    stack.write(
        "import pulumi.dynamic\n"
        "class Maker(pulumi.dynamic.ResourceProvider):\n"
        "    def create(self, props):\n"
        f"        return pulumi.dynamic.CreateResult('1', {{'text': {OTHER_SSH_KEY!r}}})\n"
        "class Made(pulumi.dynamic.Resource):\n"
        "    text: pulumi.Output[str]\n"
        "made = Made(Maker(), 'made', {'text': None})\n"
        "ComputeInstance('machine', ssh_key=made.text, instance_type='gpu_1x_h100_sxm5')\n"
    )
    assert "3 to create" in stack.preview().output
    stack.up()
    (id_,) = stack.state_ids()
    assert emulator.state.machines[id_].ssh_key == OTHER_SSH_KEY


def offline(env: dict[str, str]) -> dict[str, str]:
    """The environment without a key, and with an endpoint and a proxy where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed_at_once:
        nowhere = f"http://127.0.0.1:{closed_at_once.getsockname()[1]}"
    without_key = {name: value for name, value in env.items() if name != "FAL_ADMIN_API_KEY"}
    return {**without_key, "FAL_COMPUTE_ENDPOINT": nowhere, "HTTPS_PROXY": nowhere}
