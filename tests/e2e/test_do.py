"""`pulumi do` of the real CLI: every stateless command on its page, and a create that is lost."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..docs import blocks
from ..fakes import EIGHT
from .harness import PULUMI, SSH_KEY, Result, Stack

PAGE = [block for block in blocks("sh", "text") if block.page.name == "pulumi-do.md"]
COMMANDS = [line for block in PAGE if block.language == "sh" for line in block.text.splitlines()]
PLACEHOLDER = "ssh-ed25519 AAAA... me@laptop"


class Do:
    """Runs commands of the page in a folder that is as the page describes it, without a project."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.folder = stack.project = stack.folder / "empty"
        (self.folder / "venv").mkdir(parents=True)
        (self.folder / "venv" / "bin").symlink_to(PULUMI.parent)
        (machine,) = [block.text for block in PAGE if PLACEHOLDER in block.text]
        (self.folder / "machine.pcl").write_text(machine.replace(PLACEHOLDER, SSH_KEY))

    def __call__(self, *words: str, id_: str = "ID", fails: bool = False) -> Result:
        """Run the only line of the page that has all of these words, with this machine's id."""
        (line,) = [line for line in COMMANDS if set(words) <= set(line.split())]
        args = [id_ if word == "ID" else word for word in shlex.split(line)]
        return self.stack.run(*args[1:], fails=fails)

    def ids(self, *words: str) -> set[str]:
        """The ids that such a line prints."""
        return {machine["id"] for machine in json.loads(self(*words).output)}


@pytest.fixture
def do(stack: Stack) -> Do:
    return Do(stack)


CREATE = ("create", "--stateless", "--output")


@pytest.mark.chaos(
    "e2e/test_do.py::test_a_lost_answer_is_resolved_by_the_commands_that_are_printed"
)
def test_the_commands_of_the_page_do_what_it_says(do: Do, emulator: EmulatorServer) -> None:
    """Creates, lists, reads, functions, a patch and a delete. No create stops another."""
    eight = emulator.state.create(NewInstance(EIGHT, SSH_KEY)).id
    do("create", "--dry-run")
    assert emulator.state.alive() == {eight}
    do(*CREATE)
    (first,) = emulator.state.alive() - {eight}
    do(*CREATE)
    ones = emulator.state.alive() - {eight}
    assert len(ones) == 2

    assert do.ids("list", "--status") == ones
    assert len(do.ids("list", "--count")) == 1
    assert '"status": "ready"' in do("fal:getInstance", id_=first).output
    assert len(json.loads(do("fal:getInstances").output)["instances"]) == 3
    assert first in do("read", id_=first).output

    key = ("--stateless", "--yes", "--ssh-key", SSH_KEY)
    package = COMMANDS[0].split()[2:4]
    patch = ("do", *package, "fal:ComputeInstance", "patch", first, *key)
    assert f"Machine {first} was not changed" in do.stack.run(*patch, fails=True).output
    do("delete", "--stateless", id_=first)
    assert emulator.state.alive() == {eight} | ones - {first}


def test_a_lost_answer_is_resolved_by_the_commands_that_are_printed(
    do: Do, emulator: EmulatorServer
) -> None:
    """`pulumi do` replaces the URN in messages, so the commands have a name that it leaves alone.

    The create after it goes ahead, and warns.
    """
    emulator.faults.add("create", "500_after")
    said = do(*CREATE, fails=True).output
    assert "could not be read" not in said
    (lost,) = emulator.state.alive()
    assert "may have made a machine" in do(*CREATE).output
    commands = [line.strip() for line in said.splitlines() if line.startswith("  pulumi-fal")]
    assert len(commands) >= 2
    for command in dict.fromkeys(commands):
        subprocess.run(
            command,
            shell=True,  # as a person would run it
            cwd=do.folder,
            env={**do.stack.env, "PATH": os.pathsep.join([str(PULUMI.parent), os.defpath])},
            input="y\n",
            text=True,
            check=True,
        )
    (kept,) = emulator.state.alive()
    assert kept != lost
    (record,) = (do.stack.home / "fal-compute" / "creates").glob("*.json")
    assert kept in Path(record).read_text()
