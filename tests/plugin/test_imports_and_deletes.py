"""The two reads of an import, and deletes that must not end; tests/e2e has each with the engine."""

from __future__ import annotations

from math import inf
from typing import Any

import grpc
import pytest
from pulumi.runtime.proto import provider_pb2
from tests.fakes import ED25519, EIGHT

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from .harness import URN, Plugin, plain, sent, struct

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}
HELPER = URN.replace("dynamic/fal:ComputeInstance", "fal:ComputeInstanceImport")


def import_(plugin: Plugin, id_: str, inputs: dict[str, str]) -> Any:
    """The two reads of an import: that of the helper, and one without any property."""
    read = plugin.stub.Read
    read(provider_pb2.ReadRequest(id=id_, urn=HELPER, properties=sent(inputs)))
    return read(provider_pb2.ReadRequest(id=id_, urn=URN, properties=struct({})))


def test_an_import_answers_with_the_programs_inputs_and_the_machines_outputs(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """The engine compares these inputs with the program's, and finds no difference."""
    made = emulator.state.create(NewInstance(EIGHT, ED25519, "sector_2"))
    imported = import_(plugin, made.id, INPUTS)
    assert imported.id == made.id
    assert plain(imported.inputs) == INPUTS
    outputs = plain(imported.properties)
    assert (outputs["status"], outputs["sector"], outputs["ip"]) == ("ready", "sector_2", made.ip)


def test_a_delete_with_a_refused_key_names_the_source_of_the_key_when_its_time_is_up(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """The timeout may be over before the provider believes that the key is refused for good."""
    made = plugin.create(INPUTS)
    emulator.faults.add("delete", "403", inf)
    with pytest.raises(grpc.RpcError) as caught:
        plugin.delete(made.id, plain(made.properties), timeout=0.3)
    text = str(caught.value)
    assert f"(DELETE /compute/instance/{made.id} answered 403: " in text
    assert "make a key with the ADMIN scope" in text
    assert "came from the environment variable FAL_ADMIN_API_KEY; make" in text
    assert emulator.state.alive() == {made.id}


def test_a_delete_does_not_end_while_get_shows_a_machine_that_the_list_lacks(
    plugin: Plugin, emulator: EmulatorServer
) -> None:
    """The API answers 404 to DELETE, and only GET still knows the machine."""
    made = plugin.create(INPUTS)
    emulator.state.hide(made.id, "list")
    emulator.faults.add("delete", "404", inf)
    with pytest.raises(grpc.RpcError, match=f"Machine {made.id} may still exist"):
        plugin.delete(made.id, plain(made.properties), timeout=0.5)
    assert emulator.state.alive() == {made.id}
