"""`pulumi do --stateless` on the native provider: it lists and reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, KEY, ONE
from .harness import struct
from .native import PROVIDER_URN, Provider, hosted, plain, secret

URN = "urn:pulumi:dev::default::fal:index:ComputeInstance::ComputeInstance"
"""The URN of every resource of `pulumi do`."""
TYPE = "fal:index:ComputeInstance"
INPUTS = {"instanceType": ONE, "sshKey": ED25519}


@pytest.fixture
def command(environ: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Starts the provider as one `pulumi do` does, which is a process for each command."""
    started = []

    def start(**config: object) -> Provider:
        host = hosted()
        provider = host.__enter__()
        started.append(host)
        provider.handshake()
        args = {name: secret(value) for name, value in config.items()}
        provider.stub.Configure(
            provider_pb2.ConfigureRequest(urn=PROVIDER_URN, name="", args=struct(args))
        )
        return provider

    yield start
    for host in started:
        host.__exit__(None, None, None)


def list_(provider: Provider, limit: int = 0, token: str = TYPE, **query: object) -> list[str]:
    request = provider_pb2.ListRequest(token=token, query=struct(query), limit=limit)
    return [response.result.id for response in provider.stub.List(request)]


def read(provider: Provider, id_: str) -> Any:
    request = provider_pb2.ReadRequest(id=id_, urn=URN, inputs=struct({}), properties=struct({}))
    return provider.stub.Read(request)


def failure(call: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def machines(emulator: EmulatorServer) -> tuple[str, str, str]:
    """The ids of two ready machines, of different types, and one that is not ready."""
    kinds = (ONE, EIGHT)
    emulator.state.provisioning = 60.0
    one, eight = (emulator.state.create(NewInstance(kind, ED25519)).id for kind in kinds)
    emulator.state.advance(600)
    return one, eight, emulator.state.create(NewInstance(ONE, ED25519)).id


def at(emulator: EmulatorServer, config: dict[str, str]) -> dict[str, str]:
    """The config, with the endpoint of its API."""
    return {**config, "endpoint": emulator.url + ("/v1" if "api" in config else "")}


@pytest.mark.parametrize("config", [{}, {"api": "v1"}], ids=["legacy", "v1"])
def test_list_finds_the_machines_that_match_up_to_the_limit(
    command: Callable[..., Provider],
    emulator: EmulatorServer,
    config: dict[str, str],
) -> None:
    """All are in one page, because `pulumi do` stops after the first one."""
    one, eight, new = machines(emulator)
    provider = command(**at(emulator, config))
    assert set(list_(provider)) == {one, eight, new}
    assert set(list_(provider, status="ready")) == {one, eight}
    assert list_(provider, status="ready", instanceType=ONE) == [one]
    assert list_(provider, status="a new one") == []
    assert len(list_(provider, limit=2)) == 2
    assert len(list_(provider, limit=5)) == 3


def test_a_list_reads_every_page_of_the_api(
    command: Callable[..., Provider], emulator: EmulatorServer
) -> None:
    """The v1 API returns a page at a time."""
    made = {emulator.state.create(NewInstance(ONE, ED25519)).id for _ in range(120)}
    assert set(list_(command(**at(emulator, {"api": "v1"})))) == made


def test_the_error_of_a_list_reaches_the_engine_as_text(
    command: Callable[..., Provider], environ: pytest.MonkeyPatch
) -> None:
    """A response that is a stream has errors like any other call."""
    environ.setenv("FAL_ADMIN_API_KEY", "another")
    error = failure(lambda: list_(command()))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.details().startswith("AuthenticationError: GET ")
    assert (
        "There is no list of fal:index:Other"
        in failure(lambda: list_(command(), token="fal:index:Other")).details()
    )


def test_a_list_with_an_unknown_filter_is_unknown(
    command: Callable[..., Provider], emulator: EmulatorServer
) -> None:
    """In a preview, a filter may depend on a resource that does not exist yet."""
    request = provider_pb2.ListRequest(token=TYPE, query=struct({"status": rpc.UNKNOWN}))
    (response,) = command().stub.List(request)
    assert response.WhichOneof("response") == "computed"
    assert emulator.state.calls.total() == 0


def test_a_key_that_the_command_is_given_overrides_variables(
    command: Callable[..., Provider], emulator: EmulatorServer, environ: pytest.MonkeyPatch
) -> None:
    """A program's default provider is the other way round: its config is in state."""
    machines(emulator)
    environ.setenv("FAL_ADMIN_API_KEY", "another")
    assert len(list_(command(apiKey=KEY))) == 3
    environ.setenv("FAL_ADMIN_API_KEY", KEY)
    refused = failure(lambda: list_(command(apiKey="another"))).details()
    assert "came from the provider's config that `pulumi do` was given" in refused


def test_a_machine_can_be_read(command: Callable[..., Provider], emulator: EmulatorServer) -> None:
    """A stack may have it. This is no import."""
    one, *_ = machines(emulator)
    found = read(command(), one)
    assert (found.id, plain(found.properties)["instanceType"]) == (one, ONE)


def create(provider: Provider, preview: bool) -> Any:
    return provider.create(INPUTS, urn=URN, preview=preview)


def update(provider: Provider, id_: str, preview: bool) -> Any:
    """The Update of `pulumi do patch`, which follows a Read."""
    there = read(provider, id_)
    return provider.stub.Update(
        provider_pb2.UpdateRequest(
            id=id_,
            urn=URN,
            old_inputs=there.inputs,
            olds=there.properties,
            news=struct({"instanceType": EIGHT}),
            preview=preview,
        )
    )


def delete(provider: Provider, id_: str) -> Any:
    there = read(provider, id_)
    return provider.stub.Delete(
        provider_pb2.DeleteRequest(id=id_, urn=URN, properties=there.properties)
    )


REFUSED: dict[str, tuple[Callable[[Provider, str], object], tuple[str, ...]]] = {
    "create": (
        lambda provider, id_: create(provider, preview=False),
        (
            "No machine was created: no stack would have it",
            "Create it in a stack, with `pulumi up`",
        ),
    ),
    "the preview of a create": (
        lambda provider, id_: create(provider, preview=True),
        ("No machine was created: no stack would have it",),
    ),
    "update": (
        lambda provider, id_: update(provider, id_, preview=False),
        ("Machine ID was not changed", "change the program of that stack, and run `pulumi up`."),
    ),
    "the preview of an update": (
        lambda provider, id_: update(provider, id_, preview=True),
        ("Machine ID was not changed",),
    ),
    "delete": (
        delete,
        ("Machine ID was not deleted: a stack may have it", "\n  pulumi-fal delete ID"),
    ),
}


@pytest.mark.parametrize("call, says", REFUSED.values(), ids=REFUSED)
def test_what_changes_a_machine_is_refused(
    command: Callable[..., Provider],
    emulator: EmulatorServer,
    tmp_path: Path,
    call: Callable[[Provider, str], object],
    says: tuple[str, ...],
) -> None:
    """Nothing would record it. The API is not asked to do anything, and no create is on record."""
    one, *_ = machines(emulator)
    alive = emulator.state.alive()
    error = failure(lambda: call(command(), one))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    for part in says:
        assert part in error.details().replace(one, "ID")
    assert (emulator.state.alive(), emulator.state.get(one).instance_type) == (alive, ONE)
    assert not list(tmp_path.rglob("creates/*.json"))
