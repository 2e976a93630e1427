"""`pulumi-fal ssh-config`: the machines of a stack as hosts of ssh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pulumi_fal.stacks import state
from pulumi_fal.stacks.state import Stack, StackMachine
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN

from .cli_support import CommandLine, command_line, urn


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        line.stacks["dev"] = {"train-0": "id-0", "train-1": "id-1"}
        line.seen = {"id-0": {"ip": "198.18.0.1"}, "id-1": {"ip": "198.18.0.2"}}
        yield line


def hosts(printed: str) -> list[str]:
    return [row.split()[1] for row in printed.splitlines() if "Host" in row.split()[:1]]


def test_every_machine_is_a_host_under_its_name(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command needs no key, and calls no API."""
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    printed = line.run("ssh-config", "--stack", "dev")
    assert hosts(printed) == ["train-0", "train-1"]
    assert "Host train-1\n  HostName 198.18.0.2\n  User ubuntu\n" in printed
    assert not any(line.emulator.state.calls.values())


def test_a_machine_without_an_ip_is_left_out_with_a_note(line: CommandLine) -> None:
    """The note goes to stderr, so that stdout is a config file."""
    del line.seen["id-1"]
    assert hosts(line.run("ssh-config", "--stack", "dev")) == ["train-0"]
    assert "train-1 is left out: state has no ip for it." in line.stderr


def test_a_name_that_two_machines_have_is_replaced_by_their_ids(line: CommandLine) -> None:
    """With equal names, ssh would silently connect to the first one."""
    line.stacks["dev"] = {"a b": "id-0", "a_b": "id-1"}
    line.types["a_b"] = NATIVE_TYPE_TOKEN
    assert hosts(line.run("ssh-config", "--stack", "dev")) == ["id-0", "id-1"]


def test_a_machine_that_is_being_replaced_is_left_out(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name belongs to the new machine, and the address to nobody or to somebody else."""
    old = StackMachine("old", urn("train-0"), ip="198.18.0.9", is_replaced=True)
    new = StackMachine("new", urn("train-0"), ip="198.18.0.1")
    monkeypatch.setattr(state, "read", lambda name: Stack(name, machines=(old, new)))
    printed = line.run("ssh-config")
    assert hosts(printed) == ["train-0"]
    assert "198.18.0.9" not in printed


def test_a_stack_without_machines_is_an_error(line: CommandLine) -> None:
    """An empty file would look like a config."""
    line.stacks["dev"] = {}
    assert "The stack has no machine with an ip." in line.refused("ssh-config", "--stack", "dev")


def test_a_stack_that_cannot_be_read_is_an_error(line: CommandLine) -> None:
    """The error has the words of `pulumi`."""
    assert "no stack named 'prod' found" in line.refused("ssh-config", "--stack", "prod")


def test_a_damaged_ip_is_an_error(line: CommandLine) -> None:
    """What is no address never gets into the file."""
    line.seen["id-0"]["ip"] = "198.18.0.1\n  ProxyCommand x"
    assert "The stack's state is damaged" in line.refused("ssh-config", "--stack", "dev")
