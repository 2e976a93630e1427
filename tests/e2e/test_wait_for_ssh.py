"""`wait_for_ssh` with OpenSSH's server, which starts only after the machine is ready."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest

from pulumi_fal.emulator import state
from pulumi_fal.emulator.server import EmulatorServer

from ..processes import replaced
from .harness import SSH_KEY, Stack, wait_until
from .harness import machine as dynamic_machine
from .native import NativeStack
from .native import machine as native_machine
from .recovery import in_plugin, one_machine, says, unfinished
from .sshd import Sshd

REFUSED = "ready, waiting for SSH on port 22: Connection refused"


@pytest.fixture
def stacks(
    emulator: EmulatorServer, stack: Stack, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Stack]:
    """Prepare a stack of either host, whose machines have ips at which `sshd` will run."""

    def prepare(host: str) -> Stack:
        # The provider connects to the ip of the machine. Ports below 1024 are for root alone.
        monkeypatch.setattr(state, "NETWORK", ipaddress.IPv4Address("127.77.0.0"))
        native = host == "native"
        prepared = NativeStack(stack.folder, stack.env) if native else stack
        prepared.env.pop("FAL_COMPUTE_SSH_ADDRESS")
        in_plugin(prepared, replaced("machines.lifecycle.SSH_PORT", sshd.port))
        return prepared

    return prepare


@pytest.mark.parametrize("host, api", [("dynamic", "v1"), ("native", "legacy")])
def test_a_create_ends_when_the_machines_ssh_server_has_started(
    stacks: Callable[[str], Stack], emulator: EmulatorServer, sshd: Sshd, host: str, api: str
) -> None:
    """Until then each `up` ends with its time or with Ctrl-C, and goes on with the same machine.

    No refresh takes the machine for finished. Once it is, no command looks at SSH again.
    """
    stack = stacks(host)
    if api == "v1":
        stack.env |= {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": f"{emulator.url}/v1"}

    def write(timeout: str) -> None:
        times = f"CustomTimeouts(create='{timeout}', update='{timeout}')"
        opts = f"custom_timeouts={times if host == 'native' else f'pulumi.{times}'}"
        if host == "native":
            stack.write(native_machine(opts=opts, waitForSsh=True))
        else:
            stack.write(dynamic_machine(opts=opts, wait_for_ssh=True))

    write("3s")
    late = stack.up(fails=True)
    says(late, REFUSED, "was not ready after 3 s: its status is ready, but no SSH server greets")
    (first,) = emulator.state.alive()
    assert emulator.state.get(first).status == "ready"
    stack.refresh()
    assert [resource["id"] for resource in unfinished(stack)] == [first]

    write("300s")
    interrupted = stack.start("up")
    wait_until(lambda: REFUSED in interrupted.output)
    interrupted.interrupt()
    says(interrupted.wait(60), "was interrupted", "its status was ready")
    assert [resource["id"] for resource in unfinished(stack)] == [first]

    finishing = stack.start("up")
    wait_until(lambda: REFUSED in finishing.output)
    sshd.start()
    assert finishing.wait().exit_code == 0
    assert one_machine(stack, emulator) == first
    sshd.end()
    stack.up("--expect-no-changes", "--refresh")


def test_a_cluster_waits_for_ssh_on_each_of_its_machines(
    stacks: Callable[[str], Stack], emulator: EmulatorServer, sshd: Sshd
) -> None:
    """After a change to True an `up` waits for the machines that exist."""
    stack = stacks("dynamic")
    cluster = f"ComputeCluster('c', size=2, ssh_key={SSH_KEY!r}"
    program = f"from pulumi_fal import ComputeCluster\n{cluster}{{}})\n"
    stack.write(program.format(", wait=False, wait_for_ssh=True"))
    says(stack.up(fails=True), "resource 'c-0' has a problem: wait_for_ssh is True, but wait is")
    assert emulator.state.creations == 0
    stack.write(program.format(", sector='sector_1'"))
    stack.up()
    machines = emulator.state.alive()
    stack.write(program.format(", sector='sector_1', wait_for_ssh=True"))
    waiting = stack.start("up")
    wait_until(lambda: waiting.output.count(REFUSED) == 2)
    sshd.start()
    assert waiting.wait().exit_code == 0
    assert stack.state_ids() == emulator.state.alive() == machines
