"""`pulumi do` on the native provider: lists, and creates and deletes without a stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.api.models import NewInstance
from pulumi_fal.cli.app import cli
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.machines.journal import Journal, default_folder
from pulumi_fal.resource import wait

from ..fakes import ED25519, EIGHT, KEY, ONE, RSA, wait_until
from .harness import struct
from .native import PROVIDER_URN, Provider, engine, hosted, plain, secret

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


@pytest.fixture
def journal(environ: pytest.MonkeyPatch, tmp_path: Path) -> Journal:
    return Journal(default_folder({"PULUMI_HOME": str(tmp_path / "home")}))


def create(provider: Provider, **inputs: object) -> Any:
    return provider.create({**INPUTS, **inputs}, urn=URN)


def list_(provider: Provider, limit: int = 0, token: str = TYPE, **query: object) -> list[str]:
    request = provider_pb2.ListRequest(token=token, query=struct(query), limit=limit)
    return [response.result.id for response in provider.stub.List(request)]


def read(provider: Provider, id_: str) -> Any:
    request = provider_pb2.ReadRequest(id=id_, urn=URN, inputs=struct({}), properties=struct({}))
    return provider.stub.Read(request)


def update(provider: Provider, id_: str, news: dict[str, object]) -> Any:
    """The Update of `pulumi do patch`, which follows a Read."""
    there = read(provider, id_)
    return provider.stub.Update(
        provider_pb2.UpdateRequest(
            id=id_,
            urn=URN,
            old_inputs=there.inputs,
            olds=there.properties,
            news=struct({**plain(there.inputs), **news}),
        )
    )


def failure(call: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def pulumi_fal(*args: str) -> str:
    """The output of a command that a person runs, who says yes."""
    result = CliRunner().invoke(cli, args, input="y\n")
    assert result.exit_code == 0, result.output
    return result.output


# List.


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


# The key.


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


# Creates.


def test_creates_do_not_stop_each_other_and_each_machine_is_on_record(
    command: Callable[..., Provider], emulator: EmulatorServer, journal: Journal
) -> None:
    """All have the same URN, and no state has any of the machines."""
    made = {create(command()).id for _ in range(3)}
    assert made == emulator.state.alive()
    entries = journal.readable()
    assert {entry.instance_id for entry in entries} == made
    assert len({entry.origin.name for entry in entries}) == 3
    assert pulumi_fal("ls").count("pending: pulumi do") == 3


def test_a_machine_is_on_record_until_it_is_deleted(
    command: Callable[..., Provider], emulator: EmulatorServer, journal: Journal
) -> None:
    """The record is all that says whose the machine is. To read it is no reason to drop it."""
    first, second = create(command()), create(command())
    assert read(command(), first.id).id == first.id
    assert len(journal.readable()) == 2
    provider = command()
    request = provider_pb2.DeleteRequest(
        id=first.id, urn=URN, properties=read(provider, first.id).properties
    )
    provider.stub.Delete(request)
    assert emulator.state.alive() == {second.id}
    assert [entry.instance_id for entry in journal.readable()] == [second.id]
    pulumi_fal("delete", second.id, "--force")
    assert (emulator.state.alive(), journal.readable()) == (set(), [])


def test_a_lost_answer_is_named_with_commands_that_work_and_stops_no_other_create(
    command: Callable[..., Provider], emulator: EmulatorServer, journal: Journal
) -> None:
    """`pulumi do` replaces the URN in messages by the type, so no command may have it."""
    emulator.faults.add("create", "500_after")
    said = failure(lambda: create(command())).details()
    (lost,) = emulator.state.alive()
    (entry,) = journal.readable()
    assert URN not in said
    assert entry.origin.urn not in said
    commands = [line.split()[1:] for line in said.splitlines() if line.startswith("  pulumi-fal")]
    assert commands == [["delete", lost], ["pending", "forget", entry.origin.name]]
    with engine() as (address, logged):
        provider = command()
        provider.attach(address)
        create(provider)
        wait_until(lambda: any("may have made a machine" in line.message for line in logged))
    for args in commands:
        pulumi_fal(*args)
    assert lost not in emulator.state.alive()
    assert len(journal.readable()) == 1


def test_a_machine_that_is_not_ready_in_time_is_named_and_on_record(
    command: Callable[..., Provider],
    emulator: EmulatorServer,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no state for partial state to be kept in, and no `up` that could go on."""
    monkeypatch.setattr(wait, "CREATE_TIMEOUT", 0.2)
    emulator.state.provisioning = 600.0
    error = failure(lambda: create(command()))
    (id_,) = emulator.state.alive()
    assert "grpc-status-details-bin" not in dict(error.trailing_metadata())
    assert f"Machine {id_} was created, but is not ready." in error.details()
    assert f"pulumi-fal delete {id_} --force" in error.details()
    assert "pulumi up" not in error.details()
    assert [entry.instance_id for entry in journal.readable()] == [id_]


def test_a_create_that_an_interrupt_ends_says_so(
    command: Callable[..., Provider], emulator: EmulatorServer
) -> None:
    """The machine runs and bills, whatever ended the wait for it."""
    emulator.state.provisioning = 600.0
    provider = command()
    call = provider.create_later(INPUTS, urn=URN)
    wait_until(lambda: emulator.state.alive() != set())
    time.sleep(0.1)
    provider.cancel()
    assert "is not ready, because the wait was interrupted" in failure(call.result).details()


def test_a_machine_that_vanishes_is_reported_without_a_word_of_stacks(
    command: Callable[..., Provider], emulator: EmulatorServer
) -> None:
    """Somebody deletes the machine while the create waits for it."""
    emulator.state.provisioning = 600.0
    provider = command()
    call = provider.create_later(INPUTS, urn=URN)
    wait_until(lambda: emulator.state.alive() != set())
    (id_,) = emulator.state.alive()
    wait_until(lambda: emulator.state.calls.total() > 4)
    emulator.state.delete(id_)
    emulator.state.advance(600)
    said = failure(call.result).details()
    assert said.endswith("Run the command again to create a new one.")


# Other commands.


@pytest.mark.parametrize(
    "news, words",
    [
        ({"instanceType": EIGHT}, "instance type"),
        ({"sshKey": RSA}, "ssh key"),
        ({"instanceType": EIGHT, "sector": "sector_1"}, "instance type and sector"),
    ],
)
def test_a_patch_that_only_another_machine_could_have_is_refused(
    command: Callable[..., Provider],
    emulator: EmulatorServer,
    news: dict[str, object],
    words: str,
) -> None:
    """`pulumi do` calls Update even if Diff says that the change replaces the machine."""
    id_ = create(command()).id
    error = failure(lambda: update(command(), id_, news))
    assert f"{id_} was not changed: the API can't change the {words} of" in error.details()
    assert emulator.state.get(id_).instance_type == ONE


def test_a_patch_that_changes_nothing_is_none(command: Callable[..., Provider]) -> None:
    id_ = create(command()).id
    outputs = plain(update(command(), id_, {"instanceType": ONE}).properties)
    assert outputs["instanceType"] == ONE


def test_a_diff_for_a_patch_says_what_would_be_replaced(command: Callable[..., Provider]) -> None:
    """The command shows it before it asks whether to go on."""
    id_, provider = create(command()).id, command()
    there = read(provider, id_)
    told = provider.stub.Diff(
        provider_pb2.DiffRequest(
            id=id_,
            urn=URN,
            old_inputs=there.inputs,
            olds=there.properties,
            news=struct({"instanceType": EIGHT}),
        )
    )
    assert list(told.replaces) == ["instanceType"]


# The records of such creates, on the command line.


def test_adopt_says_that_no_resource_continues_with_a_create_of_pulumi_do(
    command: Callable[..., Provider], journal: Journal
) -> None:
    id_ = create(command()).id
    (entry,) = journal.readable()
    result = CliRunner().invoke(cli, ["pending", "adopt", entry.origin.name, id_])
    assert result.exit_code == 1
    assert f"pulumi-fal pending forget {entry.origin.name}" in result.output


def test_pending_ls_says_what_to_do_about_a_create_of_pulumi_do(
    command: Callable[..., Provider], emulator: EmulatorServer, journal: Journal
) -> None:
    id_ = create(command()).id
    (entry,) = journal.readable()
    said = pulumi_fal("pending", "ls")
    assert "none: `pulumi do` made this create" in said
    assert f"pulumi-fal delete {id_} --force" in said
    emulator.state.delete(id_)
    emulator.state.advance(600)
    said = pulumi_fal("pending", "ls")
    assert "To remove this record" in said
    assert "pulumi-fal delete" not in said
    assert "No machine was touched" in pulumi_fal("pending", "forget", entry.origin.name)
