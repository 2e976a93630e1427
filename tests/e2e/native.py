"""Stacks whose machines the native plugin manages, from Python programs without an SDK for it.

Pulumi.yaml tells the engine where the plugin is: in the folder of this Python's commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..fakes import ONE
from .harness import PULUMI, SSH_KEY, Result, Stack

TYPE = "fal:index:ComputeInstance"

SDK = """\
import os
import pulumi
from pulumi import Alias, CustomTimeouts, Output, ResourceOptions

class ComputeInstance(pulumi.CustomResource):
    instanceType: Output[str]
    sshKey: Output[str]
    sector: Output[str]
    ip: Output[str]
    status: Output[str]

    def __init__(self, name, opts=None, **inputs):
        given = {NAMES.get(name, name): value for name, value in inputs.items()}
        props = {**dict.fromkeys(ComputeInstance.__annotations__), **given}
        super().__init__("fal:index:ComputeInstance", name, props, opts)

    instance_type = property(lambda self: self.instanceType)

class ComputeCluster(pulumi.ComponentResource):
    ips: Output[list]
    mainIp: Output[str]
    sector: Output[str]
    hostfile: Output[str]
    torchrun: Output[list]
    sshConfig: Output[str]
    inventory: Output[str]
    machines: Output[list]

    def __init__(self, name, opts=None, **inputs):
        given = {NAMES.get(name, name): value for name, value in inputs.items()}
        props = {**dict.fromkeys(ComputeCluster.__annotations__), **given}
        super().__init__("fal:index:ComputeCluster", name, props, opts, remote=True)

    main_ip = property(lambda self: self.mainIp)
    ssh_config = property(lambda self: self.sshConfig)

NAMES = {
    "instance_type": "instanceType",
    "ssh_key": "sshKey",
    "wait_for_capacity": "waitForCapacity",
}
"""
"""What every program begins with, in the place of an SDK.

It takes the names of the Python package as well, so that other tests' programs run, too.
"""


class NativeStack(Stack):
    """A stack whose engine finds the native plugin. Its program has raw resources of its type."""

    def __init__(self, folder: Path, endpoint: dict[str, str]) -> None:
        super().__init__(folder, endpoint)
        file = self.project / "Pulumi.yaml"
        plugins = f"plugins:\n  providers:\n  - {{name: fal, path: {PULUMI.parent}}}\n"
        file.write_text(file.read_text().replace(plugins, "") + plugins)

    def write(self, *parts: str) -> None:
        """Write a program with these lines; see `machine` below."""
        (self.project / "__main__.py").write_text(SDK + "".join(parts), encoding="utf-8")

    def import_(self, name: str, id_: str, *flags: str, fails: bool | None = False) -> Result:
        return self.run("import", TYPE, name, id_, *flags, fails=fails)

    def resources(self, type_: str = TYPE) -> list[dict[str, Any]]:
        """State's resources of that type, those marked for deletion included."""
        return super().resources(type_)

    def urn(self, name: str = "machine") -> str:
        """The URN of a machine that the program declares at its top."""
        return f"urn:pulumi:{self.name}::test::{TYPE}::{name}"


class Code(str):
    """Python in the place of an input's value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def native(name: str = "machine", *, opts: str = "", **inputs: object) -> str:
    """The lines of a program that declares a machine as a generated SDK does, without `SDK`."""
    given = {"instanceType": ONE, "sshKey": SSH_KEY, **inputs, "ip": None}
    return (
        "class Native(pulumi.CustomResource):\n"
        "    ip: pulumi.Output[str]\n"
        f"{name} = Native({TYPE!r}, {name!r}, {given!r}, ResourceOptions({opts}))\n"
        f"pulumi.export({name!r}, {{'id': {name}.id, 'ip': {name}.ip}})\n"
    )


def machine(name: str = "machine", *, opts: str = "", **inputs: object) -> str:
    """A program's lines for one machine, whose outputs are the stack's under its name.

    `opts` is Python: the arguments of ResourceOptions.
    """
    given = {"instanceType": ONE, "sshKey": SSH_KEY, **inputs}
    arguments = "".join(f", {key}={value!r}" for key, value in given.items())
    return (
        f"{name} = ComputeInstance({name!r}{arguments}, opts=ResourceOptions({opts}))\n"
        f"outputs = ('id', 'ip', 'status', 'sector', 'instanceType')\n"
        f"pulumi.export({name!r}, {{key: getattr({name}, key) for key in outputs}})\n"
    )


def provider(name: str, **config: object) -> str:
    """A program's lines for a provider with this config."""
    return f"{name} = pulumi.ProviderResource('fal', {name!r}, {config!r})\n"
