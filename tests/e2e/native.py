"""Stacks whose machines the native plugin manages, from Python programs without an SDK for it.

Pulumi.yaml tells the engine where the plugin is: in the folder of this Python's commands.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from ..fakes import ONE
from .harness import PULUMI, SSH_KEY, Result, Run, Stack

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
        props = {**dict.fromkeys(ComputeInstance.__annotations__), **inputs}
        super().__init__("fal:index:ComputeInstance", name, props, opts)
"""
"""What every program begins with, in the place of an SDK."""


class NativeStack(Stack):
    """A stack whose engine finds the native plugin. Its program has raw resources of its type."""

    def __init__(self, folder: Path, endpoint: dict[str, str]) -> None:
        super().__init__(folder, endpoint)
        file = self.project / "Pulumi.yaml"
        plugin = f"{{name: fal, path: {PULUMI.parent}}}"
        file.write_text(f"{file.read_text()}plugins:\n  providers:\n  - {plugin}\n")

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

    def plugins(self) -> list[int]:
        """The plugin processes of the stack's runs."""
        return [pid for pid, line in self.processes().items() if "pulumi-resource-fal" in line]

    def kill(self, run: Run, who: str) -> None:
        """Send SIGKILL to the CLI, the plugin, or both, and wait for the end of the run."""
        if who in ("plugin", "both"):
            for pid in self.plugins():
                os.kill(pid, signal.SIGKILL)
        if who in ("cli", "both"):
            run.kill()
        assert run.wait().exit_code != 0


class Code(str):
    """Python in the place of an input's value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


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
