"""The provider's own decisions, without a process; tests/plugin/ drives it as the engine does."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi.output import Unknown

from pulumi_fal.provider import ComputeInstanceProvider

from ..fakes import ED25519, RSA

INPUTS = {"instance_type": "gpu_8x_h100_sxm5", "ssh_key": ED25519, "sector": "sector_1"}
STATE = {**INPUTS, "ip": "198.18.0.1", "status": "ready"}
UNKNOWN = Unknown()  # type: ignore[no-untyped-call]


def check(news: dict[str, Any], olds: dict[str, Any] | None = None) -> tuple[Any, list[str]]:
    result = ComputeInstanceProvider().check(olds or {}, news)
    assert {each.property for each in result.failures} <= {""}
    return result.inputs, [each.reason for each in result.failures]


def test_check_keeps_the_inputs_and_nothing_else() -> None:
    """What a program names as None so that it becomes an output is no input."""
    news = {**INPUTS, "ip": None, "status": None, "__provider": "p"}
    assert check(news) == (INPUTS, [])


def test_check_drops_what_is_left_out() -> None:
    """None and missing are the same, and must not differ later."""
    inputs, problems = check({**INPUTS, "sector": None})
    assert ("sector" in inputs, problems) == (False, [])


def test_check_tells_every_problem() -> None:
    """One run shows all."""
    _, problems = check({"sector": "nowhere"})
    assert len(problems) == 3


@pytest.mark.parametrize("olds", [{}, INPUTS, {"ssh_key": RSA}])
def test_check_works_with_any_olds(olds: dict[str, Any]) -> None:
    """Before a replacement the engine asks a second time, with none."""
    assert check(INPUTS, olds) == (INPUTS, [])


def test_a_new_comment_is_taken_out_by_check() -> None:
    """So that the engine sees no difference at all."""
    inputs, _ = check({**INPUTS, "ssh_key": f"{ED25519} new"}, {"ssh_key": f"{ED25519} old"})
    assert inputs["ssh_key"] == f"{ED25519} old"


def test_an_unknown_key_is_not_taken_for_the_old_one() -> None:
    """The preview has to show that it may change."""
    inputs, problems = check({**INPUTS, "ssh_key": UNKNOWN}, INPUTS)
    assert (inputs["ssh_key"], problems) == (UNKNOWN, [])


@pytest.mark.parametrize(
    "changed, replaces",
    [
        ({}, []),
        ({"sector": "sector_2"}, ["sector"]),
        ({"sector": None}, []),
        ({"ssh_key": f"{ED25519} new"}, []),
        ({"instance_type": UNKNOWN, "ssh_key": RSA}, ["instance_type", "ssh_key"]),
    ],
)
def test_diff_says_what_replaces_and_leaves_the_rest_to_the_engine(
    changed: dict[str, Any], replaces: list[str]
) -> None:
    """`changes` stays open, so that ignore_changes is honoured."""
    result = ComputeInstanceProvider().diff("i-1", STATE, {**INPUTS, **changed})
    assert (result.changes, result.replaces) == (None, replaces)


def test_a_drifted_output_is_no_difference() -> None:
    """Only inputs are compared."""
    drifted = {**STATE, "status": "unknown", "ip": "198.18.0.9"}
    assert ComputeInstanceProvider().diff("i-1", drifted, INPUTS).replaces == []


def test_update_records_the_inputs_beside_what_the_api_said() -> None:
    """No call is made, and no key is needed."""
    news = {**INPUTS, "ssh_key": f"{ED25519} new"}
    result = ComputeInstanceProvider().update("i-1", STATE, news)
    assert result.outs == {**STATE, "ssh_key": f"{ED25519} new"}


def test_the_provider_has_no_attributes() -> None:
    """They would be pickled into every state."""
    provider = ComputeInstanceProvider()
    check(INPUTS)
    assert vars(provider) == {}
