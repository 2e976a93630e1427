"""How messages about machines that may exist outside state read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pulumi_fal.api.models import Instance, NewInstance
from pulumi_fal.errors import Interrupted
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.journal import Entry, Phase
from pulumi_fal.stacks.origin import Origin

from ..fakes import HERE, ONE, URN

ENTRY = Entry(HERE, "account", NewInstance(ONE, "f00d"), ("old",), 1_700_000_000.0)
MADE = replace(ENTRY, phase=Phase.REPORTED, instance_id="made")
FOUND = Instance("found", ONE, None, "198.18.0.1", "ready")


def test_commands_can_be_copied_into_a_shell() -> None:
    """A URN may hold quotes and dollar signs."""
    nested = replace(HERE, urn="urn:pulumi:dev::shop::my:It's$fal:ComputeInstance::web")
    entry = replace(MADE, origin=nested)
    quoted = """'urn:pulumi:dev::shop::my:It'"'"'s$fal:ComputeInstance::web'"""
    for error in (unresolved.stopped(entry, "why"), unresolved.unanswered(entry, [FOUND])):
        assert f"pending adopt {quoted}" in str(error)
        assert f"pending forget {quoted}" in str(error)


def test_a_message_calls_the_resource_by_its_name() -> None:
    """People know the name from their program, and the URN is for the commands only."""
    said = str(unresolved.stopped(MADE, "why"))
    assert "resource 'web'" in said
    assert said.count(URN) == 2


def test_a_candidate_is_shown_as_far_as_it_is_known() -> None:
    """A person has to tell which one it is."""
    new = Instance("new", ONE, None, None, "pending")
    error = unresolved.unanswered(ENTRY, [FOUND, new])
    assert error.candidates == ("found", "new")
    assert "  found (gpu_1x_h100_sxm5, ready, 198.18.0.1)\n" in str(error)
    assert "  new (gpu_1x_h100_sxm5, pending, no ip)\n" in str(error)


def test_stacks_that_could_not_be_read_take_one_line_for_each_reason() -> None:
    """With hundreds of stacks, the commands to run would scroll out of sight."""
    unread = {f"acme/train/{number}": "no time" for number in range(40)}
    said = str(unresolved.unanswered(ENTRY, [FOUND], unread))
    assert "\n  acme/train/0, acme/train/1, acme/train/2 and 37 more: no time\n" in said
    assert said.count("acme/train/") == 3


def test_a_create_that_left_nothing_may_simply_be_run_again() -> None:
    """Without a machine there is nothing to adopt or to forget."""
    said = str(unresolved.unanswered(ENTRY, []))
    assert "Run `pulumi up` again: it looks once more" in said
    assert "safe" not in said  # a gateway may give up while the API still makes the machine
    assert "pulumi-fal" not in said


def test_a_machine_beside_the_present_one_is_named_with_every_way_out() -> None:
    """Nothing is stopped, so a person must hear of a machine that bills, and what to do."""
    late = replace(ENTRY, phase=Phase.LATE)
    said = unresolved.appeared(late, [FOUND], {"organization/shop/prod": "it took too long"})
    for part in (
        "resource 'web' got no answer, and was followed by another one or forgotten",
        "  found (gpu_1x_h100_sxm5, ready, 198.18.0.1)\n",
        "  organization/shop/prod: it took too long\n",
        "\n  pulumi-fal delete ID\n",
        "import it",
        f"\n  pulumi-fal pending forget {URN} --late",
    ):
        assert part in said


def test_a_machine_that_was_found_before_is_named_where_the_api_cannot_be_asked() -> None:
    """Without an answer of the API, the machine may still run."""
    late = replace(ENTRY, phase=Phase.LATE)
    assert "as well: interrupted.\nFor details" in unresolved.may_appear(late, Interrupted())
    said = unresolved.may_appear(replace(late, found=("one", "other")), None)
    assert "belongs to another account. These may come from it: one, other.\nFor details" in said


def test_a_stop_without_a_machine_claims_none() -> None:
    """The create may have made a machine, and its id is not known."""
    error = unresolved.stopped(ENTRY, "why")
    assert error.candidates == ()
    assert "ended without an answer" in str(error)
    assert "adopt" in str(error)


CLOUD = "https://api.pulumi.com"


@pytest.mark.parametrize(
    "recorded, parts",
    [
        (HERE, ("for the stack dev of the project shop, and",)),
        (replace(HERE, backend=CLOUD), (f"the stack dev of the project shop in {CLOUD}, and",)),
        (replace(HERE, urn=URN.replace("dev", "old")), ("the stack old", f"made --for {URN}\n")),
    ],
)
def test_a_create_that_may_be_another_stacks_says_so_with_every_way_out(
    recorded: Origin, parts: tuple[str, ...]
) -> None:
    """A person has to say whose the machine is."""
    entry, unread = replace(MADE, origin=recorded), {"organization/shop/prod": "no access"}
    error = unresolved.uncertain(entry, HERE, (), unread)
    ways = [f"pending adopt {recorded.urn} made", "delete made", f"pending forget {recorded.urn}"]
    for part in (*parts, *ways, "read:\n  organization/shop/prod: no access\n"):
        assert part in str(error)
    assert error.candidates == ("made",)
    assert ("--for " in str(error)) is (recorded.urn != URN)


def test_an_interruption_reads_as_a_sentence() -> None:
    """The text of the exception itself is one word."""
    for entry, candidates in ((ENTRY, ()), (MADE, ("made",))):
        unseen = unresolved.unseen(entry, Interrupted())
        assert ": interrupted.\nRun" in str(unseen)
        assert unseen.candidates == candidates
