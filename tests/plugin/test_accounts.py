"""Providers that a program declares: their keys, and machines that get another provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import pytest
from pulumi.runtime import rpc

from pulumi_fal.api import client
from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, KEY
from .harness import PACE, Native, backend, engine, failure, hosted, plain, secret

INPUTS = {"instanceType": EIGHT, "sshKey": ED25519}
OTHER = "the-key-of-another-account"
SAME = {"api": "v1", "endpoint": "https://one.example/"}


@dataclass
class World:
    """An API with any number of accounts, and the environment of this process."""

    emulator: EmulatorServer
    environ: pytest.MonkeyPatch
    outputs: dict[str, Any] = field(default_factory=dict)
    id: str = ""

    def account(self, key: str) -> str:
        """What state calls the account of the key."""
        return Settings(self.emulator.url, key, "").account


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """A world with a machine in state, which the provider `mine` made with KEY."""
    with EmulatorServer(api_key=None) as emulator:
        for name, value in {**emulator.env, **backend(tmp_path), **PACE}.items():
            monkeypatch.setenv(name, value)
        for name in ("FAL_ADMIN_API_KEY", "FAL_COMPUTE_API", "PULUMI_CONFIG"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(tmp_path)
        world = World(emulator, monkeypatch)
        with hosted() as provider:
            provider.configure("mine", apiKey=KEY)
            made = provider.create(INPUTS)
        world.id, world.outputs = made.id, plain(made.properties)
        yield world


@pytest.fixture
def provider(world: World) -> Iterator[Native]:
    """Another provider in this process, which is not configured yet."""
    with hosted() as provider:
        yield provider


def refused(provider: Native, world: World) -> str:
    """What is said if the diff of the machine fails, else ""."""
    try:
        provider.diff(world.id, INPUTS, world.outputs, INPUTS)
    except grpc.RpcError as error:
        return str(error.details())
    return ""


def take_over(provider: Native, name: str, key: str) -> None:
    """Configure the provider, which then gets the machine of the provider `mine`."""
    provider.configure(name, apiKey=key)
    provider.diff_config({"apiKey": KEY}, {"apiKey": key})


@pytest.mark.parametrize("key", [KEY, secret(KEY), rpc.UNKNOWN], ids=["plain", "secret", "unknown"])
def test_secret_key(provider: Native, key: object) -> None:
    """State and `preview --diff` don't show the key. No other argument becomes a secret."""
    config = {"endpoint": "https://example.com", "parallel": 2}
    checked = provider.check_config(apiKey=key, **config)
    assert list(checked.failures) == []
    value = KEY if isinstance(key, dict) else key
    assert plain(checked.inputs) == {**config, "apiKey": secret(value)}
    assert plain(provider.check_config(**config).inputs) == config


def test_refused_key(provider: Native, world: World) -> None:
    """To set a variable would not help. Refresh and destroy use the key in state."""
    world.emulator.faults.add("list", "401", inf)
    provider.configure("second", apiKey="wrong")
    said = failure(lambda: provider.create(INPUTS, urn=f"{Native.urn}-2")).details()
    assert "came from the apiKey of the provider 'second' as of the last `pulumi up`;" in said
    assert said.endswith("set it as the apiKey of the provider 'second' in the program.")


@pytest.mark.parametrize(
    "config, ways_out",
    [
        ({"apiKey": OTHER}, ("as the apiKey of the provider 'second' in the program, and run",)),
        ({"apiKey": KEY, "endpoint": "v1"}, ("Give the provider 'second' in the program the end",)),
    ],
)
def test_argument_to_correct(
    provider: Native, world: World, config: dict[str, str], ways_out: tuple[str, ...]
) -> None:
    """The declared provider's arguments override variables and the stack's config."""
    if "endpoint" in config:
        config = {**config, "api": "v1", "endpoint": f"{world.emulator.url}/v1"}
        world.emulator.state.kill(world.id)
    provider.configure("second", **config)
    said = failure(lambda: provider.read(world.id, INPUTS, world.outputs)).details()
    assert all(part in said for part in ways_out)
    assert "fal:" not in said
    assert "FAL_" not in said
    assert "doctor" not in said


# Machines that get another provider.


@pytest.mark.parametrize("name", ["second", "default"])
def test_other_account(provider: Native, world: World, name: str) -> None:
    """The key that can delete the machine would leave state. The message names both ways out."""
    take_over(provider, name, OTHER)
    said = refused(provider, world)
    mine, other = world.account(KEY), world.account(OTHER)
    assert f"Machine {world.id} belongs to account {mine} at {world.emulator.url}, but" in said
    assert f"account {other} at" in said
    assert f"\n  pulumi up --replace {Native.urn}" in said


def test_other_key_of_the_account(provider: Native, world: World) -> None:
    """The new key sees the machine. With the same key, the API is not even asked."""
    world.emulator.state.same_account(KEY, "rotated")
    take_over(provider, "second", "rotated")
    assert refused(provider, world) == ""
    before = world.emulator.state.calls.total()
    with hosted() as same:
        take_over(same, "second", KEY)
        assert refused(same, world) == ""
    assert world.emulator.state.calls.total() == before


def test_silent_api(provider: Native, world: World) -> None:
    """Nobody could say which account has it, once its provider has left state."""
    take_over(provider, "second", OTHER)
    world.emulator.faults.add("list", "503", inf)
    said = refused(provider, world)
    assert f"Machine {world.id} was last seen with another key" in said
    assert "answered 503" in said


def test_other_key_of_the_provider(provider: Native, world: World) -> None:
    """A preview of a stack whose key was rotated works offline."""
    provider.diff_config({"apiKey": KEY}, {"apiKey": OTHER})
    provider.configure("second", apiKey=OTHER)
    assert "the key of another account" in refused(provider, world)
    world.emulator.faults.add("list", "503", inf)
    assert refused(provider, world) == ""


def test_same_key(provider: Native, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client imports requests, which takes longer than the whole diff."""
    monkeypatch.setattr(client, "Client", mock.Mock(side_effect=AssertionError))
    take_over(provider, "other", KEY)
    assert refused(provider, world) == ""


def test_default_provider(provider: Native, world: World) -> None:
    """A variable may be wrong for one command only, and previews work offline."""
    before = world.emulator.state.calls.total()
    provider.configure("default", apiKey=OTHER)
    assert refused(provider, world) == ""
    assert world.emulator.state.calls.total() == before


# The stack's config.


@pytest.mark.parametrize(
    "config, variables, warned",
    [
        ({}, {}, ["api", "endpoint"]),
        ({"api": "v1"}, {}, ["endpoint"]),
        ({"api": "legacy", "endpoint": "https://two.example"}, {}, []),
        ({}, {"FAL_COMPUTE_API": "v1", "FAL_COMPUTE_ENDPOINT": "https://two.example"}, []),
        (SAME, {}, []),
    ],
)
def test_unused_config(
    provider: Native,
    world: World,
    config: dict[str, str],
    variables: dict[str, str],
    warned: list[str],
) -> None:
    """The default provider uses it. Arguments and variables are the user's choice."""
    world.environ.delenv("FAL_COMPUTE_ENDPOINT")
    stack = {"api": "v1", "endpoint": "https://one.example", "apiKey": OTHER}
    world.environ.setenv("PULUMI_CONFIG", json.dumps(stack))
    for name, value in variables.items():
        world.environ.setenv(name, value)
    with engine() as (address, logged):
        provider.handshake(address)
        provider.configure("default", **stack)
        assert list(logged) == []
        provider.configure("second", apiKey=KEY, **config)
    assert [message.severity for message in logged] == [2] * len(warned)
    for message, name in zip(logged, warned, strict=True):
        assert f"'second' in the program does not use the fal:{name} of" in message.message
        assert OTHER not in message.message
