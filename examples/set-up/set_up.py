"""A resource that runs a script on a machine over ssh, once.

A script that fails leaves no resource behind, so the next `pulumi up` runs it again. So does a
change of the script, and a replacement of the machine.
"""

import shlex
import subprocess
from typing import Any

import pulumi
from pulumi import dynamic

from pulumi_fal import ComputeInstance
from pulumi_fal.errors import FalError

SSH = (
    "ssh",
    "-oBatchMode=yes",  # never ask for a password
    "-oLogLevel=ERROR",
    "-oConnectTimeout=30",
    "-oServerAliveInterval=15",
    # Later machines may get the same address, so the host keys are kept in a file of their own.
    "-oUserKnownHostsFile=~/.ssh/known_hosts.fal",
    "-oStrictHostKeyChecking=accept-new",
)


class SetUpError(FalError):
    """A script failed. A FalError is shown without a traceback."""


class SetUpProvider(dynamic.ResourceProvider):
    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        machine, output = props["machine_id"], ""
        with subprocess.Popen(
            [*SSH, f"ubuntu@{props['ip']}", f"bash -c {shlex.quote(props['script'])}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as ssh:
            for line in ssh.stdout or ():
                output += line
                print(f"{machine}: {line}", end="", flush=True)  # Pulumi shows it at once
        if ssh.returncode != 0:
            raise SetUpError(
                f"The set-up of machine {machine} failed with exit code {ssh.returncode}. The "
                f"machine is billed.\nRun `pulumi up` to try again.\n{output[-2000:]}"
            )
        return dynamic.CreateResult(machine, {**props, "output": output})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        changed = [name for name in ("machine_id", "script") if _olds.get(name) != _news[name]]
        return dynamic.DiffResult(changes=bool(changed), replaces=changed)


class SetUp(dynamic.Resource, name="SetUp"):
    """The set-up of one machine by a script for bash."""

    output: pulumi.Output[str]
    """What the script printed."""

    def __init__(self, machine: ComputeInstance, script: str) -> None:
        super().__init__(
            SetUpProvider(),
            f"{machine.pulumi_resource_name}-set-up",
            {"machine_id": machine.id, "ip": machine.ip, "script": script, "output": None},
        )
