"""What was secret when the engine sent it is a secret in every answer of the native provider."""

from __future__ import annotations

from math import inf
from typing import Any

from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, ONE
from .harness import PROVIDER
from .native import Provider, failure, kept, plain, secret

KEY = secret(ED25519)
INPUTS = {"instanceType": EIGHT, "sshKey": KEY}
NONE, SOME = provider_pb2.DiffResponse.DIFF_NONE, provider_pb2.DiffResponse.DIFF_SOME


def test_the_provider_accepts_secrets(provider: Provider) -> None:
    """Only then the engine lets it construct components. It no longer marks secrets by itself."""
    assert provider.handshake().accept_secrets
    assert provider.configure().acceptSecrets


def test_check_keeps_secrets(provider: Provider) -> None:
    """The key stays a secret where check returns the old one, as only the comment has changed."""
    checked = provider.check({**INPUTS, "sshKey": secret(f"{ED25519} new")}, INPUTS)
    assert list(checked.failures) == []
    assert plain(checked.inputs) == INPUTS


def test_a_secret_that_is_not_known_yet_stays_one(provider: Provider) -> None:
    """A preview shows it as a secret."""
    unknown = {**INPUTS, "sshKey": secret(rpc.UNKNOWN)}
    assert plain(provider.check(unknown).inputs) == unknown
    planned = plain(provider.create(unknown, preview=True).properties)
    assert planned["sshKey"] == secret(rpc.UNKNOWN)
    assert planned["instanceType"] == EIGHT


def test_outputs_are_secret_where_the_input_was(provider: Provider) -> None:
    """Nothing else is: a program may print the ip."""
    given = {**INPUTS, "sector": secret("sector_2")}
    made = provider.create(given)
    outputs = plain(made.properties)
    assert (outputs["sshKey"], outputs["sector"]) == (KEY, secret("sector_2"))
    assert (outputs["instanceType"], outputs["status"]) == (EIGHT, "ready")
    read = provider.read(made.id, given, outputs)
    assert (plain(read.properties), plain(read.inputs)) == (outputs, given)
    assert provider.diff(made.id, given, outputs, given).changes == NONE
    # A sector that is no longer requested is still that of the machine.
    updated = plain(provider.update(made.id, outputs, {**INPUTS, "wait": False}).properties)
    assert updated == {**outputs, "wait": False}
    provider.delete(made.id, updated)


def test_partial_state_keeps_secrets(provider: Provider, emulator: EmulatorServer) -> None:
    """In its outputs and its inputs, whether it is create, read or update that fails."""
    emulator.state.provisioning = inf
    id_, outputs, inputs, _ = kept(failure(lambda: provider.create(INPUTS, timeout=0.2)))
    read = kept(failure(lambda: provider.read(id_, INPUTS, outputs)))
    updated = kept(failure(lambda: provider.update(id_, outputs, INPUTS, timeout=0.1)))
    for _, recorded, given, _ in ((id_, outputs, inputs, ""), read, updated):
        assert (recorded["sshKey"], recorded["status"], given) == (KEY, "pending", INPUTS)
    emulator.state.machines[id_].provisioning = 0
    assert plain(provider.update(id_, outputs, INPUTS).properties)["sshKey"] == KEY


def test_a_refused_import_keeps_secrets(provider: Provider, emulator: EmulatorServer) -> None:
    """The engine has put the machine into state before it is compared with the program."""
    made = emulator.state.create(NewInstance(EIGHT, ED25519, "sector_1"))
    read = provider.import_(made.id)
    outputs = {**plain(read.properties), "sshKey": KEY}
    news = {"instanceType": ONE, "sshKey": KEY}
    assert kept(failure(lambda: provider.update(made.id, outputs, news)))[1]["sshKey"] == KEY


def test_a_state_of_the_dynamic_provider_keeps_its_secrets(provider: Provider) -> None:
    """Its properties have other names."""
    theirs = {"instance_type": EIGHT, "ssh_key": KEY, "sector": secret("sector_1")}
    olds = {**theirs, "__provider": PROVIDER, "ip": "198.18.0.1", "status": "ready"}
    updated = plain(provider.update("i-1", olds, INPUTS).properties)
    assert (updated["sshKey"], updated["sector"]) == (KEY, secret("sector_1"))


def test_an_input_that_becomes_a_secret_is_recorded_as_one(provider: Provider) -> None:
    """The value is the same, but state has it in the clear among the outputs."""
    before = {**INPUTS, "sshKey": ED25519}
    outputs = {**before, "ip": "198.18.0.1", "status": "ready"}
    told = provider.diff("i-1", before, outputs, INPUTS)
    assert (told.changes, list(told.replaces)) == (SOME, [])
    updated = plain(provider.update("i-1", outputs, INPUTS).properties)
    assert updated == {**outputs, "sshKey": KEY}
    assert provider.diff("i-1", INPUTS, updated, INPUTS).changes == NONE


def test_what_a_secret_argument_finds_is_secret(
    provider: Provider, emulator: EmulatorServer
) -> None:
    """What is found shows what was asked for."""
    machine = emulator.state.create(NewInstance(EIGHT, ED25519, "sector_1"))
    found = provider.invoke("getInstance", id=secret(machine.id))
    assert found["id"] == secret(machine.id)
    assert all(is_secret(value) for value in found.values())
    assert is_secret(provider.invoke("getInstances", sector=secret("sector_1"))["instances"])
    assert provider.invoke("getInstance", id=machine.id)["id"] == machine.id


def is_secret(value: Any) -> bool:
    return isinstance(value, dict) and value == secret(value.get("value"))
