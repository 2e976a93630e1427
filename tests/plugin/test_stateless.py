"""`pulumi do --stateless` on the native provider: it lists and reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, KEY, ONE
from .harness import PROVIDER_URN, Native, failure, hosted, plain, secret, struct

URN = "urn:pulumi:dev::default::fal:index:ComputeInstance::ComputeInstance"
"""The URN of every resource of `pulumi do`."""
TYPE = "fal:index:ComputeInstance"
INPUTS = {"instanceType": ONE, "sshKey": ED25519}
Command = Callable[..., Native]


@pytest.fixture
def command(environ: pytest.MonkeyPatch) -> Iterator[Command]:
    """Starts the provider as one `pulumi do` does, with a config of its own."""
    with ExitStack() as hosts:

        def start(**config: object) -> Native:
            provider = hosts.enter_context(hosted())
            provider.urn = URN
            args = struct({name: secret(value) for name, value in config.items()})
            provider.stub.Configure(provider_pb2.ConfigureRequest(urn=PROVIDER_URN, args=args))
            return provider

        yield start


def list_(provider: Native, limit: int = 0, token: str = TYPE, **query: object) -> list[str]:
    request = provider_pb2.ListRequest(token=token, query=struct(query), limit=limit)
    return [response.result.id for response in provider.stub.List(request)]


def machines(emulator: EmulatorServer) -> tuple[str, str, str]:
    """The ids of two ready machines, of different types, and one that is not ready."""
    emulator.state.provisioning = 60.0
    one, eight = (emulator.state.create(NewInstance(kind, ED25519)).id for kind in (ONE, EIGHT))
    emulator.state.advance(600)
    return one, eight, emulator.state.create(NewInstance(ONE, ED25519)).id


@pytest.mark.parametrize("api", ["legacy", "v1"])
def test_list(command: Command, emulator: EmulatorServer, api: str) -> None:
    """All that match, up to the limit, are in one page: `pulumi do` stops after the first."""
    one, eight, new = machines(emulator)
    provider = command(api=api, endpoint=emulator.url + ("/v1" if api == "v1" else ""))
    assert set(list_(provider)) == {one, eight, new}
    assert list_(provider, status="ready", instanceType=ONE) == [one]
    assert list_(provider, status="a new one") == []
    assert [len(list_(provider, limit=limit)) for limit in (2, 5)] == [2, 3]


def test_list_of_many(command: Command, emulator: EmulatorServer) -> None:
    """The v1 API returns a page at a time."""
    made = {emulator.state.create(NewInstance(ONE, ED25519)).id for _ in range(120)}
    assert set(list_(command(api="v1", endpoint=f"{emulator.url}/v1"))) == made


def test_unknown_filter(command: Command, emulator: EmulatorServer) -> None:
    """In a preview, a filter may depend on a resource that does not exist yet."""
    request = provider_pb2.ListRequest(token=TYPE, query=struct({"status": rpc.UNKNOWN}))
    (response,) = command().stub.List(request)
    assert response.WhichOneof("response") == "computed"
    assert emulator.state.calls.total() == 0


def test_key(command: Command, emulator: EmulatorServer, environ: pytest.MonkeyPatch) -> None:
    """The key that the command is given overrides variables, and a wrong one is an error."""
    machines(emulator)
    environ.setenv("FAL_ADMIN_API_KEY", "another")
    assert len(list_(command(apiKey=KEY))) == 3
    environ.setenv("FAL_ADMIN_API_KEY", KEY)
    error = failure(lambda: list_(command(apiKey="another")))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.details().startswith("AuthenticationError: GET ")
    assert "came from the provider's config that `pulumi do` was given" in error.details()


def test_other_type(command: Command) -> None:
    """Only machines can be listed."""
    said = failure(lambda: list_(command(), token="fal:index:Other")).details()
    assert "There is no list of fal:index:Other" in said


def test_read(command: Command, emulator: EmulatorServer) -> None:
    """A machine can be read, although a stack may have it. This is no import."""
    one, *_ = machines(emulator)
    found = command().read(one)
    assert (found.id, plain(found.properties)["instanceType"]) == (one, ONE)


def create(provider: Native, id_: str, **fields: bool) -> Any:
    return provider.create(INPUTS, **fields)


def update(provider: Native, id_: str, **fields: bool) -> Any:
    """The Update of `pulumi do patch`, which follows a Read."""
    return provider.update(
        id_, plain(provider.read(id_).properties), {"instanceType": EIGHT}, **fields
    )


def delete(provider: Native, id_: str) -> Any:
    return provider.delete(id_, plain(provider.read(id_).properties))


@pytest.mark.parametrize(
    "call, fields, says",
    [
        (create, {}, "No machine was created: no stack would have it"),
        (create, {"preview": True}, "No machine was created: no stack would have it"),
        (update, {}, "Machine ID was not changed"),
        (update, {"preview": True}, "Machine ID was not changed"),
        (delete, {}, "Machine ID was not deleted: a stack may have it"),
    ],
    ids=["create", "preview of create", "update", "preview of update", "delete"],
)
def test_refused(
    command: Command,
    emulator: EmulatorServer,
    tmp_path: Path,
    call: Callable[..., object],
    fields: dict[str, bool],
    says: str,
) -> None:
    """What changes a machine is refused before the API is asked, with nothing on record."""
    one, *_ = machines(emulator)
    alive = emulator.state.alive()
    error = failure(lambda: call(command(), one, **fields))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert says in error.details().replace(one, "ID")
    assert (emulator.state.alive(), emulator.state.get(one).instance_type) == (alive, ONE)
    assert not list(tmp_path.rglob("creates/*.json"))
