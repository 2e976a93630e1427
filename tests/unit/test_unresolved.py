"""How messages about machines that may exist outside state read."""

from __future__ import annotations

from dataclasses import replace

from pulumi_fal.api.models import Instance
from pulumi_fal.errors import Interrupted
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.entry import Entry, Phase

from ..fakes import HERE, ONE

ENTRY = Entry(HERE, "account", ONE, "f00d", None, ("old",), 1_700_000_000.0)


def test_commands_can_be_copied_into_a_shell() -> None:
    """A URN may hold quotes and dollar signs."""
    nested = replace(HERE, urn="urn:pulumi:dev::shop::my:It's$fal:ComputeInstance::web")
    entry = replace(ENTRY, origin=nested, phase=Phase.REPORTED, instance_id="made")
    quoted = """'urn:pulumi:dev::shop::my:It'"'"'s$fal:ComputeInstance::web'"""
    found = Instance("made", ONE, None, "198.18.0.1", "ready")
    for error in (unresolved.stopped(entry, "why"), unresolved.unanswered(entry, [found])):
        assert f"pending adopt {quoted}" in str(error)
        assert f"pending forget {quoted}" in str(error)


def test_a_candidate_is_shown_as_far_as_it_is_known() -> None:
    """So that a person can tell which one it is."""
    known = Instance("one", ONE, None, "198.18.0.1", "ready")
    new = Instance("two", ONE, None, None, "pending")
    error = unresolved.unanswered(ENTRY, [known, new])
    assert error.candidates == ("one", "two")
    assert "  one (gpu_1x_h100_sxm5, ready, 198.18.0.1)\n" in str(error)
    assert "  two (gpu_1x_h100_sxm5, pending, no ip)\n" in str(error)


def test_a_stop_without_a_machine_claims_none() -> None:
    """The create may have made one."""
    error = unresolved.stopped(ENTRY, "it can't be told")
    assert error.candidates == ()
    assert "ended without an answer" in str(error)
    assert "adopt" in str(error)


def test_an_interruption_reads_as_a_sentence() -> None:
    """Its own text is one word."""
    assert "can't be told: interrupted. Run" in str(unresolved.unseen(ENTRY, Interrupted()))
    unseen = unresolved.unseen(replace(ENTRY, instance_id="made"), Interrupted())
    assert "can't be told: interrupted. Run" in str(unseen)
    assert unseen.candidates == ("made",)
