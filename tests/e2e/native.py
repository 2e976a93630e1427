"""Stacks whose machines the native plugin manages, from Python programs without an SDK for it.

The engine finds the plugin in the folder of this Python's commands, as Pulumi.yaml says.
"""

from __future__ import annotations

from pathlib import Path

from .harness import PULUMI, SSH_KEY, Stack

TYPE = "fal:index:ComputeInstance"
ONE, EIGHT = "gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"

SDK = """
import pulumi
from pulumi import Alias, CustomTimeouts, Output, ResourceOptions

class ComputeInstance(pulumi.CustomResource):
    instanceType: Output[str]
    ip: Output[str]
    sector: Output[str]
    status: Output[str]

    def __init__(self, name, opts=None, **inputs):
        outputs = ("instanceType", "sshKey", "sector", "wait", "ip", "status")
        props = {**dict.fromkeys(outputs), **inputs}
        super().__init__("fal:index:ComputeInstance", name, props, opts)

def provider(name, **config):
    return pulumi.ProviderResource("fal", name, config)
"""
"""What the SDK of a language would have."""


def use_plugin(stack: Stack) -> Stack:
    """Have the stack's engine find the native plugin."""
    file = stack.project / "Pulumi.yaml"
    file.write_text(
        f"{file.read_text()}plugins:\n  providers:\n  - {{name: fal, path: {PULUMI.parent}}}\n"
    )
    return stack


def write(stack: Stack, *parts: str) -> None:
    """Make these lines the program; see `machine`."""
    (stack.project / "__main__.py").write_text(SDK + "".join(parts), encoding="utf-8")


def machine(name: str = "machine", *, opts: str = "", **inputs: object) -> str:
    """A program's lines for one machine, whose outputs are the stack's under its name.

    `opts` is Python: the arguments of ResourceOptions. Inputs are strings, or Python in a `code`.
    """
    given = {"instanceType": ONE, "sshKey": SSH_KEY, **inputs}
    arguments = "".join(f", {each}={value!r}" for each, value in given.items())
    return (
        f"{name} = ComputeInstance({name!r}{arguments}, opts=ResourceOptions({opts}))\n"
        f"outputs = ('id', 'ip', 'status', 'sector', 'instanceType')\n"
        f"pulumi.export({name!r}, {{each: getattr({name}, each) for each in outputs}})\n"
    )


class code(str):  # noqa: N801 - it stands for a literal
    """Python in place of an input's value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def urn(stack: Stack, name: str = "machine") -> str:
    """The URN of a machine that the program declares at its top."""
    return f"urn:pulumi:{stack.name}::test::{TYPE}::{name}"


def state_ids(stack: Stack) -> set[str]:
    """The ids of the native machines in state."""
    return {each["id"] for each in stack.resources(TYPE) if each.get("id")}


def plugins(stack: Stack) -> list[int]:
    """The native plugin's processes of the stack's runs."""
    name = Path("pulumi-resource-fal").name
    return [pid for pid, line in stack.processes().items() if name in line]
