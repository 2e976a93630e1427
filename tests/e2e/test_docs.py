"""The Python in the docs runs: its programs by the real engine, the others by themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..docs import blocks
from ..fakes import EIGHT, ONE
from .harness import SSH_KEY, Stack

ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
RUN_ALL = """\
import pathlib
import pulumi
from pulumi_fal import ComputeCluster, ComputeInstance

def under_names_of_their_own(resource):
    construct = resource.__init__
    resource.__init__ = lambda self, name, *args, **kwargs: construct(
        self, f"{number}-{name}", *args, **kwargs
    )

under_names_of_their_own(ComputeCluster)
under_names_of_their_own(ComputeInstance)
for number, file in enumerate(sorted(pathlib.Path("programs").iterdir())):
    exec(compile(file.read_text(), file.name, "exec"), {"__name__": "__main__"})
"""


READING = """\
from pulumi import Output, export
from pulumi_fal import ComputeInstance, get_instance, get_instance_output, get_instances

got = ComputeInstance.get("got", {id!r})
export("got", {{"ip": got.ip, "sector": got.sector}})
export("status", get_instance({id!r}).status)
export("kind", get_instance_output(Output.from_input({id!r})).instance_type)
export("ids", [found.id for found in get_instances(sector="sector_2", status="ready")])
"""


def test_programs(stack: Stack, emulator: EmulatorServer) -> None:
    """One `up` runs them all, each with resource names of its own; machines that they name exist.

    Beside them, a program reads such a machine in each way. An error's traceback names the file of
    the program, which has the page and the line.
    """
    programs = [block for block in blocks("python") if block.is_program]
    folder = stack.project / "programs"
    folder.mkdir()
    for block in programs:
        program = block.program
        for id_ in re.findall(ID, program):
            there = emulator.state.create(NewInstance(ONE, SSH_KEY))
            program = program.replace(id_, there.id)
        name = str(block).replace("/", "_").replace(":", "_line_")
        (folder / f"{name}.py").write_text(program)
    made = emulator.state.create(NewInstance(EIGHT, SSH_KEY, "sector_2"))
    emulator.state.advance(600)
    (folder / "reading.py").write_text(READING.format(id=made.id))
    (stack.project / "__main__.py").write_text(RUN_ALL)
    stack.set_config(sshPublicKey=SSH_KEY)
    stack.up("--parallel", "32")
    declared = sum(block.text.count("ComputeInstance(") for block in programs)
    assert len(stack.resources()) >= declared > len(programs) / 2
    there, outputs = emulator.state.get(made.id), stack.outputs()
    assert outputs["got"] == {"ip": there.ip, "sector": "sector_2"}
    assert (outputs["status"], outputs["kind"]) == ("ready", EIGHT)
    assert made.id in outputs["ids"]


SCRIPTS = [
    block
    for block in blocks("python")
    # test_examples.py runs that one beside an example.
    if block.is_script and "def test_one_machine_comes_and_goes" not in block.text
]


def test_scripts(stack: Stack) -> None:
    """Scripts and tests in the docs need nothing but what is installed."""
    for number, block in enumerate(SCRIPTS):
        (stack.folder / f"test_{number}.py").write_text(block.program)
    env = {**stack.env, "PATH": os.pathsep.join([f"{sys.prefix}/bin", os.defpath])}

    def python(*args: str) -> None:
        subprocess.run([sys.executable, *args], cwd=stack.folder, env=env, check=True)

    # Importing schemathesis takes longer than most of these tests.
    flags = ("-c", os.devnull, "--rootdir=.", "-p", "no:schemathesis")
    tests = [number for number, block in enumerate(SCRIPTS) if block.is_test]
    python("-m", "pytest", *flags, *(f"test_{number}.py" for number in tests))
    for number in range(len(SCRIPTS)):
        if number not in tests:
            python(f"test_{number}.py")
