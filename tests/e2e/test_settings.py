"""What a user sets and gets wrong: the API key shows nowhere, and mistakes cost nothing.

That no file of a stack holds the key (state, backups, logs, what was printed) is also checked
after every other test of this folder: conftest.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pulumi_fal.emulator.faults import fault
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT, KEY
from .harness import Stack, machine
from .recovery import says

LOUD = ("-v=9", "--logtostderr", "--logflow")
OLDER_KEY = "an-older-key-of-the-config"


def test_a_key_of_the_environment_is_in_no_log_and_wins_over_config(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Where a key was rotated, `destroy` still sees the old one in config.

    The engine itself logs config at -v=9, as the docs say; the provider never logs a key.
    """
    stack.config("fal:apiKey", OLDER_KEY, "--secret")
    results = [stack.up(*LOUD), stack.refresh(*LOUD)]
    stack.run("stack", "export", "--show-secrets")
    results.append(stack.destroy(*LOUD))
    assert emulator.state.creations == emulator.state.deletions == 1
    assert stack.files_with("ComputeInstance") != []
    assert stack.files_with(KEY) == []
    for result in results:
        lines = [line for line in result.output.splitlines() if OLDER_KEY in line]
        assert [line for line in lines if "Configure().inputs" not in line] == []


def test_a_key_in_secret_config_is_enough_and_is_never_shown(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The key is encrypted in every file, and hidden where an error page of the API repeats it."""
    stack.config("fal:apiKey", stack.env.pop("FAL_ADMIN_API_KEY"), "--secret")
    stack.env["FAL_COMPUTE_RETRY_BUDGET"] = "0.5"
    echo = replace(fault("401"), detail=f"not with Authorization: Key {KEY}")
    emulator.faults.add("list", echo, 100)
    repeated = stack.up(fails=True)
    says(repeated, "not with Authorization: Key [the key]")
    assert KEY not in repeated.output
    assert emulator.state.creations == 0

    emulator.faults.clear()
    stack.up()
    assert emulator.state.creations == 1
    stack.destroy()
    assert emulator.state.alive() == set()
    assert stack.files_with(KEY) == []


@pytest.mark.chaos("unit/test_operations.py::test_all_problems")
def test_mistakes_are_named_before_anything_is_created(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A preview shows every problem of a machine at once, and repeats no private key.

    An instance type that may be new only causes a warning: whether it exists is for the API to
    say. A setting that can't work is named once, whatever the number of machines. Without an API
    key, the error names both places to set one.
    """
    private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END"
    stack.write(machine(ssh_key=private))
    refused = stack.preview(fails=True)
    says(refused, "ssh_key is a PRIVATE key")
    assert "b3BlbnNzaC1rZXktdjEAAAAA" not in refused.output
    stack.write(machine(instance_type="gpu_8x_h100_sxm", sector="far north", ssh_key=""))
    says(
        stack.preview(fails=True),
        f"did you mean {EIGHT}?",
        "sector is not one of sector_1, sector_2",
        "ssh_key is blank",
    )
    assert emulator.state.calls.total() == 0

    stack.write(machine(instance_type="gpu_8x_b200_sxm6"))
    unknown = stack.up(fails=True)
    says(unknown, "warning: ", "POST /compute/instance answered 422: instance_type:")
    assert emulator.state.calls["create"] == 1

    stack.write(machine("one"), machine("two"))
    stack.env["FAL_COMPUTE_API"] = "v2"
    _, _, diagnostics = stack.preview(fails=True).output.partition("Diagnostics:")
    assert diagnostics.count("must be legacy or v1, not 'v2'") == 1
    del stack.env["FAL_COMPUTE_API"]

    del stack.env["FAL_ADMIN_API_KEY"]
    says(stack.up(fails=True), "FAL_ADMIN_API_KEY", "fal:apiKey", "ADMIN scope")
    assert emulator.state.creations == 0
    assert stack.resources() == []
