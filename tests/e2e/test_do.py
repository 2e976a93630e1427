"""`pulumi do` of the real CLI: the commands of its page that need no stack, and what is refused."""

from __future__ import annotations

import json
import shlex

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..docs import blocks
from ..fakes import EIGHT, ONE
from .harness import PULUMI, SSH_KEY, Stack

PAGE = [block for block in blocks("sh", "text") if block.page.name == "pulumi-do.md"]
COMMANDS = [line for block in PAGE if block.language == "sh" for line in block.text.splitlines()]
PLACEHOLDER = "ssh-ed25519 AAAA... me@laptop"
PLUGIN = tuple(COMMANDS[0].split()[1:5])


def test_do(stack: Stack, emulator: EmulatorServer) -> None:
    """Each command does what the page says, for machines of whoever made them.

    Without a stack, nothing is changed.
    """
    folder = stack.project = stack.folder / "empty"
    (folder / "venv").mkdir(parents=True)
    (folder / "venv" / "bin").symlink_to(PULUMI.parent)
    (text,) = [block.text for block in PAGE if PLACEHOLDER in block.text]
    (folder / "machine.pcl").write_text(text.replace(PLACEHOLDER, SSH_KEY))
    one, eight = (emulator.state.create(NewInstance(kind, SSH_KEY)).id for kind in (ONE, EIGHT))

    def do(*words: str) -> str:
        """Run the first line of the page that has all of these words, with the machine's id."""
        line = next(line for line in COMMANDS if set(words) <= set(line.split()))
        args = [one if word == "ID" else word for word in shlex.split(line)]
        return stack.run(*args[1:]).output

    assert {machine["id"] for machine in json.loads(do("list", "--status"))} == {one}
    assert '"status": "ready"' in do("fal:getInstance")
    create = ("create", "--input", "pcl", "--input-file", "machine.pcl", "--stateless", "--yes")
    assert "No machine was created" in stack.run(*PLUGIN, *create, fails=True).output
    assert emulator.state.alive() == {one, eight}
