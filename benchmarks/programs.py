"""What is compared: who creates the machines, by which program, and with which settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

OURS, V1, NATIVE = "pulumi-fal", "pulumi-fal, v1 API", "native plugin"
UNWRITTEN = "pulumi-fal, without the engine's writes"
CLUSTER, FOLLOWING = "cluster in a given sector", "cluster in a chosen sector"
NATIVE_CLUSTER = "native plugin's cluster in a given sector"
NATIVE_FOLLOWING = "native plugin's cluster in a chosen sector"
WAITING = "waiting for capacity"
NAIVE, DIRECT = "naive provider", "direct client"

COMMANDS = ("up", "refresh", "destroy")
ONLY_CREATED = (V1, NATIVE_CLUSTER, NATIVE_FOLLOWING, CLUSTER, FOLLOWING, WAITING)
"""Those that are measured until their machines are ready. What follows is as for the others."""
FULL_SECONDS = 15.0
"""For how long the API has no capacity for those who wait for it."""
WAITING_INTERVAL = 0.025
"""Their poll interval in seconds, so that in this time they ask some thirty times."""

INSTANCE = {
    "instance_type": "gpu_1x_h100_sxm5",
    "ssh_key": f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} benchmark",
}
_PROGRAM = """
from {module} import {resource}

for number in range({machines}):
    {resource}(f"machine-{{number}}", {arguments})
"""
_CLUSTER_PROGRAM = """
from {module} import ComputeCluster

ComputeCluster("node", size={machines}, ssh_key={ssh_key!r}, sector={sector!r})
"""
_SECTORS = {
    CLUSTER: "sector_2",
    FOLLOWING: None,
    NATIVE_CLUSTER: "sector_2",
    NATIVE_FOLLOWING: None,
}
_RESOURCES = {NATIVE: ("raw", "Machine"), NAIVE: ("naive", "Machine")}
_NATIVE = (NATIVE, NATIVE_CLUSTER, NATIVE_FOLLOWING)


def commands(who: str) -> tuple[str, ...]:
    """The commands that are measured, in their order."""
    return COMMANDS[:1] if who in ONLY_CREATED else COMMANDS


def program(who: str, machines: int) -> str:
    """The `__main__.py` of a stack with so many machines."""
    if who in _SECTORS:
        return _CLUSTER_PROGRAM.format(
            module="raw" if who in _NATIVE else "pulumi_fal",
            machines=machines,
            ssh_key=INSTANCE["ssh_key"],
            sector=_SECTORS[who],
        )
    module, resource = _RESOURCES.get(who, ("pulumi_fal", "ComputeInstance"))
    inputs = {**INSTANCE, **({"wait_for_capacity": "1h"} if who == WAITING else {})}
    arguments = ", ".join(f"{name}={value!r}" for name, value in inputs.items())
    return _PROGRAM.format(module=module, resource=resource, machines=machines, arguments=arguments)


def project(who: str) -> str:
    """The Pulumi.yaml of a stack, which tells the engine where a native plugin is."""
    text = "name: benchmark\nruntime: python\n"
    if who in _NATIVE:
        path = Path(sys.executable).parent
        text += f"plugins:\n  providers:\n    - name: fal\n      path: {path}\n"
    return text


def settings(who: str, endpoint: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that tell the provider and the engine what to do."""
    variables = dict(endpoint)
    if who == V1:
        url = endpoint["FAL_COMPUTE_ENDPOINT"]
        variables |= {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": f"{url}/v1"}
    if who == WAITING:
        variables["FAL_COMPUTE_POLL_INTERVAL"] = str(WAITING_INTERVAL)
    if who == UNWRITTEN:
        variables |= {"PULUMI_EXPERIMENTAL": "true", "PULUMI_SKIP_CHECKPOINTS": "true"}
    return variables
