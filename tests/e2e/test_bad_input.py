"""Mistakes: each is named in the provider's own words, with what to do, and nothing is created."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack, machine

ONE, EIGHT = "gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"


@pytest.fixture(autouse=True)
def nothing_is_created(stack: Stack, emulator: EmulatorServer) -> Iterator[None]:
    """Whatever was wrong: no machine, and none in state."""
    stack.env["FAL_COMPUTE_RETRY_BUDGET"] = "1"
    yield
    assert emulator.state.creations == 0
    assert stack.resources() == []


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"instance_type": "gpu_8x_h100_sxm"}, f"instance_type .* did you mean {EIGHT}?"),
        ({"instance_type": "GPU_1X_H100_SXM5"}, f"instance_type .* did you mean {ONE}?"),
        ({"instance_type": "one H100"}, f"instance_type .* known types are .*{ONE}"),
        ({"instance_type": EIGHT, "sector": "sector_4"}, "sector is not one of sector_1, sector_2"),
        ({"instance_type": ONE, "sector": "sector_1"}, f"sector is for .* {EIGHT} machines"),
        ({"ssh_key": None}, "ssh_key is missing"),
        ({"ssh_key": "  "}, "ssh_key is blank"),
        ({"ssh_key": "~/.ssh/id_ed25519.pub"}, "ssh_key is the name of a file"),
        ({"ssh_key": 5}, "ssh_key must be a string"),
    ],
)
def test_a_wrong_input_is_refused_offline(
    stack: Stack, emulator: EmulatorServer, inputs: dict[str, Any], message: str
) -> None:
    """By a preview already, and without a call."""
    stack.write(machine(**inputs))
    assert re.search(message, stack.preview(fails=True).output)
    assert sum(emulator.state.calls.values()) == 0


def test_an_input_that_is_left_out_is_named(stack: Stack) -> None:
    """As one that is None: no TypeError from Python."""
    stack.write("ComputeInstance('machine', instance_type='gpu_1x_h100_sxm5')\n")
    assert "ssh_key is missing" in stack.preview(fails=True).output


def test_every_problem_of_a_machine_is_shown_at_once(stack: Stack) -> None:
    """Nobody should have to run `up` once a mistake."""
    stack.write(machine(instance_type="gpu_1x_h100", sector="north", ssh_key=""))
    output = stack.up(fails=True).output
    for name in ("instance_type is not", "sector is not", "ssh_key is"):
        assert name in output


def test_a_private_key_is_refused_and_not_repeated(stack: Stack) -> None:
    """It is the mistake with the highest price: neither we nor the engine may print it."""
    private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END"
    stack.write(machine(ssh_key=private))
    output = stack.up(fails=True).output
    assert "ssh_key is a PRIVATE key" in output
    assert "b3BlbnNzaC1rZXktdjEAAAAA" not in output


def test_an_instance_type_of_tomorrow_is_the_apis_to_refuse(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """It goes out as it is, and the API's reason is the user's, field by field."""
    stack.write(machine(instance_type="gpu_8x_b200_sxm6"))
    output = stack.up(fails=True).output
    assert "POST /compute/instance answered 422: instance_type:" in output
    assert emulator.state.calls["create"] == 1


def test_an_instance_type_of_tomorrow_is_warned_of(stack: Stack) -> None:
    """By a preview already: it may as well be a mistake."""
    stack.write(machine(instance_type="gpu_8x_b200_sxm6"))
    assert "warning" in stack.preview().output


def test_without_a_key_both_places_to_set_one_are_named(stack: Stack) -> None:
    """And what the key must be good for."""
    del stack.env["FAL_ADMIN_API_KEY"]
    output = stack.up(fails=True).output
    for words in ("FAL_ADMIN_API_KEY", "fal:apiKey", "ADMIN scope"):
        assert words in output


def test_a_wrong_key_is_named_by_its_source(stack: Stack) -> None:
    """Of several places where a key may come from, the one that was used."""
    stack.env["FAL_ADMIN_API_KEY"] = "a-wrong-key"
    result = stack.up(fails=True)
    for words in ("401", "ADMIN scope", "the environment variable FAL_ADMIN_API_KEY"):
        assert words in result.output
    assert "a-wrong-key" not in result.output


@pytest.mark.parametrize(
    "endpoint",
    ["http://compute.example", "compute.example", "https://me:secret@compute.example", "ftp://x"],
)
def test_an_endpoint_that_is_not_https_is_refused(stack: Stack, endpoint: str) -> None:
    """The key must not travel in the clear, nor a password stand in the endpoint."""
    stack.env["FAL_COMPUTE_ENDPOINT"] = endpoint
    output = stack.up(fails=True).output
    assert "it must be https://HOST" in output
    assert "FAL_COMPUTE_ENDPOINT or fal:endpoint" in output
    assert "secret" not in output


def test_an_endpoint_where_nobody_listens_is_named_as_such(stack: Stack) -> None:
    """After a second here: FAL_COMPUTE_RETRY_BUDGET."""
    with socket.create_server(("127.0.0.1", 0)) as closed_at_once:
        nowhere = f"http://127.0.0.1:{closed_at_once.getsockname()[1]}"
    stack.env["FAL_COMPUTE_ENDPOINT"] = nowhere
    result = stack.up(fails=True)
    assert "connection refused" in result.output
    assert "Check the network and the endpoint" in result.output
    assert result.seconds < 10


def test_an_endpoint_that_answers_html_is_named_as_such(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A web site where the API should be: its first words, and never a JSON error."""
    for call in ("create", "list", "get"):
        emulator.faults.add(call, "html", inf)
    result = stack.up(fails=True)
    for words in ("Sign in", "Check the endpoint", "FAL_COMPUTE_ENDPOINT"):
        assert words in result.output
    assert "JSONDecodeError" not in result.output


def test_a_machine_without_room_is_refused_in_the_apis_words(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """What the API says of capacity is all that can be said of it."""
    emulator.state.capacity = 0
    assert "no capacity left" in stack.up(fails=True).output
