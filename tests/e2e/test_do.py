"""`pulumi do` of the real CLI: the commands of its page that need no stack, and what is refused."""

from __future__ import annotations

import json
import shlex

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..docs import blocks
from ..fakes import EIGHT, ONE
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

    def __call__(self, *words: str, id_: str = "ID") -> Result:
        """Run the first line of the page that has all of these words, with this machine's id."""
        line = next(line for line in COMMANDS if set(words) <= set(line.split()))
        args = [id_ if word == "ID" else word for word in shlex.split(line)]
        return self.stack.run(*args[1:])

    def ids(self, *words: str) -> set[str]:
        """The ids that such a line prints."""
        return {machine["id"] for machine in json.loads(self(*words).output)}


@pytest.fixture
def do(stack: Stack) -> Do:
    return Do(stack)


PLUGIN = tuple(COMMANDS[0].split()[1:5])
INPUTS = ("--input", "pcl", "--input-file", "machine.pcl")


def test_the_page_lists_and_reads(do: Do, emulator: EmulatorServer) -> None:
    """Each command does what the page says, for machines of whoever made them."""
    one, eight = (emulator.state.create(NewInstance(kind, SSH_KEY)).id for kind in (ONE, EIGHT))
    assert do.ids("list") == {one, eight}
    assert do.ids("list", "--status") == {one}
    assert len(do.ids("list", "--count")) == 1
    assert one in do("read", id_=one).output
    assert '"status": "ready"' in do("fal:getInstance", id_=one).output
    assert len(json.loads(do("fal:getInstances").output)["instances"]) == 2


@pytest.mark.parametrize(
    "args, says",
    [
        (("create", *INPUTS), "No machine was created: no stack would have it"),
        (("create", "--dry-run", *INPUTS), "No machine was created: no stack would have it"),
        (("patch", "ID", "--ssh-key", SSH_KEY), "Machine ID was not changed"),
        (("upsert", "ID", *INPUTS), "Machine ID was not changed"),
        (("delete", "ID"), "pulumi-fal delete ID"),
    ],
    ids=["create", "dry run", "patch", "upsert", "delete"],
)
def test_without_a_stack_nothing_is_changed(
    do: Do, emulator: EmulatorServer, args: tuple[str, ...], says: str
) -> None:
    """The words reach a person, and the machine stays as it is."""
    id_ = emulator.state.create(NewInstance(ONE, SSH_KEY)).id
    words = [id_ if word == "ID" else word for word in args]
    said = do.stack.run(*PLUGIN, *words, "--stateless", "--yes", fails=True).output
    assert says.replace("ID", id_) in said
    assert emulator.state.alive() == {id_}
