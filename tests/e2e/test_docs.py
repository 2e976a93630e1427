"""The Python in the docs runs: its programs by the real engine, the others by themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..docs import Block, blocks
from .harness import SSH_KEY, Stack

ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@pytest.mark.parametrize("block", [each for each in blocks("python") if each.is_program], ids=str)
def test_a_program_in_the_docs_runs(block: Block, stack: Stack, emulator: EmulatorServer) -> None:
    """A machine that it names by its id is there."""
    program = block.program
    for id_ in re.findall(ID, program):
        there = emulator.state.create("gpu_1x_h100_sxm5", SSH_KEY, None)
        program = program.replace(id_, there.id)
    print(f"{block}\n{program}")
    (stack.project / "__main__.py").write_text(program)
    if "sshPublicKey" in program:
        stack.config("sshPublicKey", SSH_KEY)
    stack.up()


@pytest.mark.parametrize(
    "block", [each for each in blocks("python") if not each.is_program], ids=str
)
def test_a_script_or_a_test_in_the_docs_runs(block: Block, stack: Stack) -> None:
    """With nothing but what is installed."""
    file = stack.folder / "test_it.py"
    file.write_text(block.program)
    command = ["-m", "pytest", "-c", os.devnull, "--rootdir=."] if block.is_test else []
    subprocess.run(
        [sys.executable, *command, file],
        cwd=stack.folder,
        env={**stack.env, "PATH": os.pathsep.join([f"{sys.prefix}/bin", os.defpath])},
        check=True,
    )
