"""Providers that a program declares: their keys, and machines that get another provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import inf
from typing import Any

import grpc
import pytest
from pulumi.runtime import rpc

from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, KEY
from .harness import Native, engine, failure, hosted, plain, secret

INPUTS = {"instanceType": EIGHT, "sshKey": ED25519}
OTHER = "the-key-of-another-account"


@pytest.fixture
def emulator() -> Iterator[EmulatorServer]:
    with EmulatorServer(api_key=None) as server:
        yield server


@pytest.fixture
def made(environ: pytest.MonkeyPatch) -> Any:
    """A machine in state, which the provider `mine` made with KEY. No variable has a key."""
    for name in ("FAL_ADMIN_API_KEY", "FAL_COMPUTE_API", "PULUMI_CONFIG"):
        environ.delenv(name, raising=False)
    with hosted() as provider:
        provider.configure("mine", apiKey=KEY)
        return provider.create(INPUTS)


def refused(provider: Native, made: Any) -> str:
    """What is said if the diff of the machine fails, else ""."""
    try:
        provider.diff(made.id, INPUTS, plain(made.properties), INPUTS)
    except grpc.RpcError as error:
        return str(error.details())
    return ""


@pytest.mark.parametrize("key", [KEY, secret(KEY), rpc.UNKNOWN], ids=["plain", "secret", "unknown"])
def test_secret_key(provider: Native, key: object) -> None:
    """State and `preview --diff` don't show the key. No other argument becomes a secret."""
    config = {"endpoint": "https://example.com", "parallel": 2}
    checked = provider.check_config(apiKey=key, **config)
    assert list(checked.failures) == []
    value = KEY if isinstance(key, dict) else key
    assert plain(checked.inputs) == {**config, "apiKey": secret(value)}
    assert plain(provider.check_config(**config).inputs) == config


def test_refused_key(provider: Native, made: Any, emulator: EmulatorServer) -> None:
    """To set a variable would not help. Refresh and destroy use the key in state."""
    emulator.faults.add("list", "401", inf)
    provider.configure("second", apiKey="wrong")
    said = failure(lambda: provider.create(INPUTS, urn=f"{Native.urn}-2")).details()
    assert "came from the apiKey of the provider 'second' as of the last `pulumi up`;" in said
    assert said.endswith("set it as the apiKey of the provider 'second' in the program.")


def test_argument_to_correct(provider: Native, made: Any) -> None:
    """The declared provider's arguments override variables and the stack's config."""
    provider.configure("second", apiKey=OTHER)
    said = failure(lambda: provider.read(made.id, INPUTS, plain(made.properties))).details()
    assert "as the apiKey of the provider 'second' in the program, and run" in said
    assert all(word not in said for word in ("fal:", "FAL_", "doctor"))


# Machines that get another provider.


def take_over(provider: Native, name: str, key: str) -> None:
    """Configure the provider, which then gets the machine of the provider `mine`."""
    provider.configure(name, apiKey=key)
    provider.diff_config({"apiKey": KEY}, {"apiKey": key})


@pytest.mark.parametrize("name", ["second", "default"])
def test_other_account(provider: Native, made: Any, emulator: EmulatorServer, name: str) -> None:
    """The key that can delete the machine would leave state. The message names both ways out.

    If the API is silent, nobody could say which account has it.
    """
    take_over(provider, name, OTHER)
    said = refused(provider, made)
    mine, other = (Settings(emulator.url, key, "").account for key in (KEY, OTHER))
    assert f"Machine {made.id} belongs to account {mine} at {emulator.url}, but" in said
    assert f"account {other} at" in said
    assert f"\n  pulumi up --replace {Native.urn}" in said
    emulator.faults.add("list", "503", inf)
    said = refused(provider, made)
    assert f"Machine {made.id} was last seen with another key" in said
    assert "answered 503" in said


def test_same_account(provider: Native, made: Any, emulator: EmulatorServer) -> None:
    """A new key that sees the machine is fine. With the same key, the API is not even asked.

    Nor is it for the default provider: a variable may be wrong for one command only.
    """
    before = emulator.state.calls.total()
    take_over(provider, "second", KEY)
    assert refused(provider, made) == ""
    with hosted() as default:
        default.configure("default", apiKey=OTHER)
        assert refused(default, made) == ""
    assert emulator.state.calls.total() == before
    emulator.state.same_account(KEY, "rotated")
    with hosted() as rotated:
        take_over(rotated, "second", "rotated")
        assert refused(rotated, made) == ""


def test_other_key_of_the_provider(provider: Native, made: Any, emulator: EmulatorServer) -> None:
    """A preview of a stack whose key was rotated works offline."""
    provider.diff_config({"apiKey": KEY}, {"apiKey": OTHER})
    provider.configure("second", apiKey=OTHER)
    assert "the key of another account" in refused(provider, made)
    emulator.faults.add("list", "503", inf)
    assert refused(provider, made) == ""


# The stack's config.


OF_STACK = {"api": "v1", "endpoint": "https://one.example"}
TWO = "https://two.example"


@pytest.mark.parametrize(
    "config, variables, warned",
    [
        ({}, {}, ["api", "endpoint"]),
        ({"api": "v1"}, {}, ["endpoint"]),
        ({"api": "legacy", "endpoint": TWO}, {}, []),
        ({}, {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": TWO}, []),
        ({**OF_STACK, "endpoint": "https://one.example/"}, {}, []),
    ],
)
def test_unused_config(
    provider: Native,
    environ: pytest.MonkeyPatch,
    config: dict[str, str],
    variables: dict[str, str],
    warned: list[str],
) -> None:
    """The default provider uses it. Arguments and variables are the user's choice."""
    stack = {**OF_STACK, "apiKey": OTHER}
    for name in ("FAL_COMPUTE_ENDPOINT", "FAL_COMPUTE_API"):
        environ.delenv(name, raising=False)
    for name, value in {"PULUMI_CONFIG": json.dumps(stack), **variables}.items():
        environ.setenv(name, value)
    with engine() as (address, logged):
        provider.handshake(address)
        provider.configure("default", **stack)
        assert list(logged) == []
        provider.configure("second", apiKey=KEY, **config)
    assert [message.severity for message in logged] == [2] * len(warned)
    for message, name in zip(logged, warned, strict=True):
        assert f"'second' in the program does not use the fal:{name} of" in message.message
        assert OTHER not in message.message
