"""What the dynamic host's adapter does by itself; tests/plugin drives it as the engine does."""

from __future__ import annotations

import pytest
from pulumi.output import Unknown
from pulumi.runtime import rpc

from pulumi_fal.provider import ComputeInstanceProvider

from ..fakes import ED25519, EIGHT, ID

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}


@pytest.mark.parametrize("unknown", [Unknown(), rpc.UNKNOWN])  # type: ignore[no-untyped-call]
def test_either_of_the_sdks_unknown_values_is_understood_and_sent_back(unknown: object) -> None:
    """The SDK passes on the one that the engine sent, and the engine has to get the same."""
    news = {**INPUTS, "ssh_key": unknown}
    checked = ComputeInstanceProvider().check({}, news)
    assert (checked.inputs, checked.failures) == (news, [])
    assert ComputeInstanceProvider().diff(ID, INPUTS, news).replaces == ["ssh_key"]


def test_the_sdks_own_properties_are_taken_out() -> None:
    """The provider's serialized form is no input, and no output either."""
    sdks = {"__provider": "serialized"}
    assert ComputeInstanceProvider().check({}, {**INPUTS, **sdks}).inputs == INPUTS
    state = {**INPUTS, "status": "ready"}
    updated = ComputeInstanceProvider().update(
        ID, {**state, "__provider": "serialized"}, {**INPUTS, "__provider": "serialized"}
    )
    assert updated.outs == state


def test_a_failure_names_no_property() -> None:
    """The engine would print the property's value, which may be a private key."""
    (failure,) = ComputeInstanceProvider().check({}, {**INPUTS, "ssh_key": "hunter2"}).failures
    assert failure.property == ""
    assert failure.reason.startswith("ssh_key does not start with a known key type")


def test_the_provider_has_no_attributes() -> None:
    """A provider with attributes would have them pickled into every state."""
    provider = ComputeInstanceProvider()
    provider.check({}, INPUTS)
    assert vars(provider) == {}
