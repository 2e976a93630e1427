"""A stack whose state is in S3, here that of moto's server."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from moto.server import ThreadedMotoServer

from pulumi_fal.emulator.server import EmulatorServer

from .cli import pulumi_fal
from .harness import SECONDS, TYPE, Stack, machine
from .recovery import PATIENCE, kill_while_waiting, pending, printed

BUCKET = "state"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}
"""What a request needs to be let in. The server doesn't check the signature."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a bucket."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it logs every request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = "disableSSL=true&s3ForcePathStyle=true&region=us-east-1"
    url = f"s3://{BUCKET}?endpoint=http://{host}:{port}&{options}"
    requests.put(f"http://{host}:{port}/{BUCKET}", timeout=SECONDS).raise_for_status()
    yield url
    server.stop()


@pytest.mark.chaos(
    "e2e/test_kill.py::test_a_create_whose_cli_was_killed_while_waiting_is_resumed_by_the_next_up"
)
def test_a_stack_in_s3_recovers_from_a_kill_a_rename_and_a_lost_answer(
    url: str, stack: Stack, emulator: EmulatorServer
) -> None:
    """A stack of the same name in a file backend is neither warned nor stopped."""
    stack.env |= PATIENCE
    namesake_env = {**stack.env, **KEYS}  # without them, the other stack can't be read
    stack.env |= {"PULUMI_BACKEND_URL": url, **KEYS}
    stack.run("stack", "init")
    first = kill_while_waiting(stack, emulator)
    in_s3, stack.env = stack.env, namesake_env
    assert first not in stack.up().output
    (namesakes,) = stack.state_ids()
    stack.env = in_s3

    stack.cancel()
    stack.run("stack", "rename", "prod")
    stack.name = "prod"
    stack.up()
    assert ids(url, stack) == {first}

    stack.write(machine(), machine("second"))
    emulator.faults.add("create", "reset_after")
    lost = stack.up(fails=True)
    (second,) = emulator.state.alive() - {first, namesakes}
    (command,) = printed(lost.output, "pulumi-fal pending adopt")
    pending(stack, "adopt", *command)
    stack.up()
    assert ids(url, stack) == {first, second}
    assert "No create is pending." in pending(stack, "ls")
    report = json.loads(pulumi_fal(stack, "audit", "--json"))
    whose = {row["id"]: row["whose"] for row in report["machines"]}
    assert whose == dict.fromkeys((first, second, namesakes), "stack")
    assert emulator.state.creations == 3


def ids(url: str, stack: Stack) -> set[str]:
    """The ids of the machines in the state that the bucket holds."""
    path = f".pulumi/stacks/test/{stack.name}.json"
    (endpoint,) = parse_qs(urlsplit(url).query)["endpoint"]
    answer = requests.get(f"{endpoint}/{BUCKET}/{path}", headers=SIGNED, timeout=SECONDS)
    resources = answer.json()["checkpoint"]["latest"]["resources"]
    return {row["id"] for row in resources if row["type"] == TYPE}
