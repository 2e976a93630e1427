"""The native host of the stories: its plugin manages the machines of programs without an SDK.

Pulumi.yaml tells the engine where the plugin is: in the folder of this Python's commands.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .harness import PULUMI, Stack

TYPE = "fal:index:ComputeInstance"

SDK = """\
import os
import pulumi
from pulumi import Output, ResourceOptions

def in_camel_case(name):
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))

def props(kind, inputs):
    given = {in_camel_case(name): value for name, value in inputs.items()}
    return {**dict.fromkeys(kind.__annotations__), **given}

class ComputeInstance(pulumi.CustomResource):
    instanceType: Output[str]
    sshKey: Output[str]
    sector: Output[str]
    ip: Output[str]
    status: Output[str]

    def __init__(self, name, opts=None, **inputs):
        super().__init__("fal:index:ComputeInstance", name, props(ComputeInstance, inputs), opts)

    instance_type = property(lambda self: self.instanceType)

class ComputeCluster(pulumi.ComponentResource):
    ips: Output[list]
    mainIp: Output[str]
    sector: Output[str]
    hostfile: Output[str]
    torchrun: Output[list]
    sshConfig: Output[str]
    inventory: Output[str]
    skypilot: Output[str]
    dstack: Output[str]
    machines: Output[list]

    def __init__(self, name, opts=None, **inputs):
        given = props(ComputeCluster, inputs)
        super().__init__("fal:index:ComputeCluster", name, given, opts, remote=True)

    main_ip = property(lambda self: self.mainIp)
    ssh_config = property(lambda self: self.sshConfig)
"""
"""What a program begins with, in the place of an SDK. It takes the names of the Python package."""


class NativeStack(Stack):
    """A stack whose engine finds the native plugin."""

    type = TYPE
    header = SDK

    def __init__(self, folder: Path, endpoint: dict[str, str], *, name: str = "dev") -> None:
        super().__init__(folder, endpoint, name=name)
        file = self.project / "Pulumi.yaml"
        plugins = f"plugins:\n  providers:\n  - {{name: fal, path: {PULUMI.parent}}}\n"
        file.write_text(file.read_text().replace(plugins, "") + plugins)


def provider(name: str, **config: object) -> str:
    return f"{name} = pulumi.ProviderResource('fal', {name!r}, {config!r})\n"


in_native = pytest.mark.parametrize("host", [NativeStack], ids=["native"])
"""The test's `stack` is of the native host."""
in_both = pytest.mark.parametrize("host", [Stack, NativeStack], ids=["dynamic", "native"])
"""The hosts differ in what the test is about."""
