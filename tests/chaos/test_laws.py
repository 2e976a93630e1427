"""The worlds of this folder find laws that are broken on purpose, and settle as they should."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from pathlib import Path

import pytest

from . import accounts, outages, renames
from .matrix import case
from .report import Case, broken
from .world import Outcome, Template, World


def test_a_delete_that_a_killed_plugin_began_is_over_before_all_is_to_settle(
    template: Template, tmp_path: Path
) -> None:
    """An `up` that ran a moment before the machine is gone would find nothing to do."""

    def settle_after_the_delete_began(world: World) -> None:
        state = world.emulator.state
        (going,) = world.ours()
        state.deletion = 60
        state.delete(going)
        world.settle("up")
        assert going not in world.stack.state_ids()
        world.check(creations=2, alive=1)

    outcome = Outcome("delete", "killed")
    template.play(tmp_path / "case", outcome, settle_after_the_delete_began, start="ready")
    assert not broken([outcome]), broken([outcome])


def among(cases: Iterable[Case], where: str, name: str) -> Case:
    """The case of that row and name."""
    return next(found for found in cases if found[:2] == (where, name))


BROKEN_LAWS = {
    "a POST is repeated": (
        ("api.retry.may_repeat", "lambda error, **_: True"),
        case("create: POST", "reset_after"),
        "duplicates",
    ),
    "nothing is written down": (
        ("machines.journal.Journal.write", "lambda *args: None"),
        case("create: POST", "html_after"),
        "duplicates",
    ),
    "a 404 is taken for an end": (
        ("machines.lifecycle.Lifecycle._seen_in", "lambda *args, ask: None"),
        case("delete: DELETE", "404", inf),
        "orphans",
    ),
    "a bad answer ends a wait": (
        ("machines.lifecycle.Outage.record_failure", "lambda self, error: 1 / 0"),
        among(outages.cases(), "create: outage", "500 x 1, list"),
        "failures",
    ),
    "any account's word counts": (
        ("machines.absence.Ownership.is_own", "lambda *args: True"),
        among(accounts.cases(), "another key: refresh", "ready"),
        "orphans",
    ),
    "a record of another name is nobody's": (
        ("machines.creates.Creates._refuse_if_renamed", "lambda *args: None"),
        among(renames.cases(), "renamed: stack", "while waiting, cli killed"),
        "duplicates",
    ),
}


@pytest.mark.parametrize("law", BROKEN_LAWS)
def test_a_law_that_is_broken_on_purpose_is_found(
    law: str, template: Template, tmp_path: Path
) -> None:
    """A check that finds nothing proves nothing."""
    (broken_name, value), (where, name, act, start), found = BROKEN_LAWS[law]

    def break_and_act(world: World) -> None:
        world.replace_in_plugin(broken_name, value)
        act(world)

    outcome = template.play(tmp_path / "case", Outcome(where, name), break_and_act, start=start)
    assert outcome.broken
    assert getattr(outcome, found) > 0
