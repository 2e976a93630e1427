"""The API key: where it is taken from, and that it shows nowhere.

That no file of a stack holds it (state, backups, the CLI's logs, what was printed) is also checked
after every other test here: conftest.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pulumi_fal.emulator.faults import fault
from pulumi_fal.emulator.server import EmulatorServer

from .conftest import API_KEY
from .harness import Stack

LOUD = ("-v=9", "--logtostderr", "--logflow")


def test_the_key_is_neither_in_state_nor_in_the_loudest_logs(stack: Stack) -> None:
    """From the environment, through every command that calls the API."""
    stack.up(*LOUD)
    stack.refresh(*LOUD)
    stack.run("stack", "export", "--show-secrets")
    stack.destroy(*LOUD)
    assert stack.files_with("ComputeInstance") != []
    assert stack.files_with(API_KEY) == []


def test_a_key_in_secret_config_is_enough_and_encrypted(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """For every command, and wherever Pulumi keeps it."""
    use_config(stack)
    stack.up()
    assert emulator.state.creations == 1
    stack.refresh()
    stack.run("stack", "export")
    assert stack.files_with(API_KEY) == []
    stack.destroy()
    assert emulator.state.alive() == set()


def test_only_the_engine_logs_a_key_from_config(stack: Stack) -> None:
    """At -v=9 it prints what it configures a provider with; the docs warn of it. We add nothing."""
    use_config(stack)
    lines = [line for line in stack.up(*LOUD).output.splitlines() if API_KEY in line]
    assert [line for line in lines if "Configure().inputs" not in line] == []
    stack.runs[-1].log.unlink()


def test_the_environment_wins_over_config(stack: Stack, emulator: EmulatorServer) -> None:
    """Where a key was rotated, `destroy` still sees the old one in config."""
    stack.config("fal:apiKey", "an-older-key", "--secret")
    stack.up()
    stack.destroy()
    assert emulator.state.creations == emulator.state.deletions == 1


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_key_that_the_api_repeats_is_not_shown(
    stack: Stack, emulator: EmulatorServer, status: int
) -> None:
    """An error page may quote the request's headers."""
    echo = f'{{"detail": "not with Authorization: Key {API_KEY}"}}'
    emulator.faults.add("list", replace(fault("403"), status=status, body=echo), 100)
    emulator.faults.add("create", replace(fault("403"), status=status, body=echo), 100)
    stack.env["FAL_COMPUTE_RETRY_BUDGET"] = "0.5"
    result = stack.up(fails=True)
    assert "not with Authorization" in result.output
    assert API_KEY not in result.output
    assert emulator.state.creations == 0


def use_config(stack: Stack) -> None:
    """Take the key out of the environment and set it as a secret of the stack."""
    stack.config("fal:apiKey", stack.env.pop("FAL_ADMIN_API_KEY"), "--secret")
