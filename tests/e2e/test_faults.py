"""The faults that are most unlike one another, each at one call; tests/chaos has them all."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from pathlib import Path

import pytest

from ..chaos import accounts, outages, renames
from ..chaos.matrix import case
from ..chaos.report import Case, broken, play_all, print_table
from ..chaos.world import Outcome, Template, World

SOME = {
    "create: list before": ["429", "html"],
    "create: POST": ["429", "500_after", "reset_before", "late"],
    "create: POST, others rent": ["truncated"],
    "create: poll": ["403", "wrong_shape"],
    "read: list": ["500", "empty"],
    "read: GET": ["502"],
    "delete: DELETE": ["404", "409", "reset_after"],
    "delete: list after": ["503"],
    "delete: GET after": ["redirect"],
}
LASTING = {"wrong_shape", "500", "empty", "502", "503"}


@pytest.mark.timeout(300)
def test_no_fault_of_any_call_loses_a_machine_or_makes_a_second(
    new_stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alive is what is in state, each made once; and each failure named those at risk."""
    cases = [
        case(where, name, inf if name in LASTING else 1)
        for where, names in SOME.items()
        for name in names
    ]
    outcomes = play_all(cases, Template(new_stack, tmp_path), tmp_path)
    with capsys.disabled():
        print_table(outcomes, "some faults, at every call")
    assert not broken(outcomes), broken(outcomes)


def test_a_delete_that_a_killed_plugin_began_is_over_before_all_is_to_settle(
    new_stack: Path, tmp_path: Path
) -> None:
    """Else `up` would find all as it should be, a moment before the machine is gone."""

    def settle_after_the_delete_began(world: World) -> None:
        state = world.emulator.state
        (going,) = world.ours()
        state.deletion = 60
        state.delete(going)
        world.settle("up")
        assert going not in world.stack.state_ids()
        world.check(creations=2, alive=1)

    template = Template(new_stack, tmp_path)
    outcome = Outcome("delete", "killed")
    template.play(tmp_path / "case", outcome, settle_after_the_delete_began, start="ready")
    assert not broken([outcome]), broken([outcome])


def among(cases: Iterable[Case], where: str, name: str) -> Case:
    """The case of that row and name."""
    return next(each for each in cases if each[:2] == (where, name))


BROKEN_LAWS = {
    "a POST is repeated": (
        "from pulumi_fal.api import retry; retry.may_repeat = lambda error, **_: True",
        case("create: POST", "reset_after"),
        "duplicates",
    ),
    "nothing is written down": (
        "from pulumi_fal.machines.journal import Journal; Journal.write = lambda *args: None",
        case("create: POST", "html_after"),
        "duplicates",
    ),
    "a 404 is taken for an end": (
        (
            "from pulumi_fal.machines.lifecycle import Lifecycle; "
            "Lifecycle._seen_in = lambda *args, ask: None"
        ),
        case("delete: DELETE", "404", inf),
        "orphans",
    ),
    "a bad answer ends a wait": (
        "from pulumi_fal.machines.outage import Outage; Outage.record_failure = lambda self, error: 1 / 0",
        among(outages.cases(), "create: outage", "500 x 1, list"),
        "failures",
    ),
    "any account's word counts": (
        "from pulumi_fal.machines.ownership import Ownership as O; O.is_own = lambda *args: True",
        among(accounts.cases(), "another key: refresh", "ready"),
        "orphans",
    ),
    "a record of another name is nobody's": (
        (
            "from pulumi_fal.machines.launcher import Launcher; "
            "Launcher._refuse_if_renamed = lambda *args: None"
        ),
        among(renames.cases(), "renamed: stack", "while waiting, cli killed"),
        "duplicates",
    ),
}


@pytest.mark.parametrize("law", BROKEN_LAWS)
def test_a_law_that_is_broken_on_purpose_is_found(
    law: str, new_stack: Path, tmp_path: Path
) -> None:
    """What finds nothing proves nothing."""
    code, (where, name, act, start), found = BROKEN_LAWS[law]

    def break_and_act(world: World) -> None:
        world.in_plugin(code)
        act(world)

    template = Template(new_stack, tmp_path)
    outcome = template.play(tmp_path / "case", Outcome(where, name), break_and_act, start=start)
    assert outcome.broken
    assert getattr(outcome, found) > 0
