"""What is compared: who creates the machines, and by which program."""

from __future__ import annotations

import sys
from pathlib import Path

BY_HAND, OURS, NATIVE = "written by hand", "pulumi-fal", "native plugin"
WAITING = "only waits, for all at once"

INSTANCE = {
    "instance_type": "gpu_1x_h100_sxm5",
    "ssh_key": f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} benchmark",
}
_PROGRAM = """
from {module} import {resource}

for number in range({machines}):
    {resource}(f"machine-{{number}}", {arguments})
"""
_RESOURCES = {
    NATIVE: ("benchmarks.raw", "Machine"),
    BY_HAND: ("benchmarks.naive", "Machine"),
    WAITING: ("benchmarks.waiting", "WaitingMachine"),
}


def program(who: str, machines: int) -> str:
    """The `__main__.py` of a stack with so many machines."""
    module, resource = _RESOURCES.get(who, ("pulumi_fal", "ComputeInstance"))
    arguments = ", ".join(f"{name}={value!r}" for name, value in INSTANCE.items())
    return _PROGRAM.format(module=module, resource=resource, machines=machines, arguments=arguments)


def project(who: str) -> str:
    """The Pulumi.yaml of a stack, which tells the engine where a native plugin is."""
    text = "name: benchmark\nruntime: python\n"
    if who == NATIVE:
        path = Path(sys.executable).parent
        text += f"plugins:\n  providers:\n    - name: fal\n      path: {path}\n"
    return text
