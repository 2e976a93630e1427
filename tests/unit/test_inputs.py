"""What is wrong with inputs, said without their values; and which changes make another machine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_fal.api.models import InstanceType, Sector
from pulumi_fal.api.ssh_keys import HOW
from pulumi_fal.resource import inputs
from pulumi_fal.resource.call import UNKNOWN

from ..fakes import ED25519, RSA

GOOD = {"instance_type": "gpu_8x_h100_sxm5", "ssh_key": ED25519, "sector": "sector_1"}


def problems(**changed: Any) -> list[str]:
    return [failure.reason for failure in inputs.failures({**GOOD, **changed})]


def replacements(olds: dict[str, Any], news: dict[str, Any]) -> list[str]:
    return inputs.replacements(olds, news)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"sector": None},
        {"sector": Sector.SECTOR_3, "instance_type": InstanceType.GPU_8X_H100_SXM5},
        {"instance_type": "gpu_1x_h100_sxm5", "sector": None},
        {"ssh_key": f"{RSA} a comment\n"},
    ],
)
def test_good_inputs_have_no_problem(changed: dict[str, Any]) -> None:
    """Enums are accepted as strings, and the sector may be left out."""
    assert problems(**changed) == []


@pytest.mark.parametrize("name", ["instance_type", "ssh_key"])
def test_a_required_input_is_missed_by_name(name: str) -> None:
    """The API would answer 422 after the preview said that all is well."""
    assert problems(**{name: None}) == [f"{name} is missing"]


@pytest.mark.parametrize("name", inputs.REPLACING)
def test_a_value_that_is_no_string_is_called_by_its_type(name: str) -> None:
    """Numbers and lists come from YAML and JSON config."""
    assert problems(**{name: 7.0}) == [f"{name} must be a string, not of type float"]


def test_a_number_is_no_duration() -> None:
    """It would not say of what."""
    said = "wait_for_capacity must be a duration such as '6h', not of type int"
    assert problems(wait_for_capacity=6) == [said]


def test_wait_is_true_or_false_and_nothing_like_it() -> None:
    """ "false" from a config file would otherwise mean True."""
    assert problems(wait="false") == ["wait must be True or False, not of type str"]
    assert problems(wait=False) == []


def test_every_problem_is_told_at_once() -> None:
    """One run of `preview` shows all that has to be put right."""
    assert problems(instance_type=None, ssh_key=" ", sector="no where") == [
        "instance_type is missing",
        f"ssh_key is blank. {HOW}",
        "sector is not one of sector_1, sector_2, sector_3",
    ]


@pytest.mark.parametrize(
    "slip, meant",
    [
        ("gpu_8x_h100_sxm", "gpu_8x_h100_sxm5"),
        ("GPU_1X_H100_SXM5", "gpu_1x_h100_sxm5"),
        ("gpu-8x-h100-sxm5", "gpu_8x_h100_sxm5"),
        ("8x_h100_sxm5", "gpu_8x_h100_sxm5"),
        ("gpu_1x_h100", "gpu_1x_h100_sxm5"),
        ("gpu_h100_sxm5", "gpu_8x_h100_sxm5"),
    ],
)
def test_a_near_miss_of_a_type_is_told_what_was_meant(slip: str, meant: str) -> None:
    """A typo in a type is answered with the type that was meant."""
    expected = f"instance_type is not a known instance type: did you mean {meant}?"
    assert problems(instance_type=slip, sector=None) == [expected]


@pytest.mark.parametrize(
    "new", ["gpu_8x_h200_sxm5", "gpu_2x_h100_sxm5", "gpu_8x_b200", "gpu_8x_h100_sxm6", "cpu.large"]
)
def test_a_type_that_may_be_new_passes(new: str) -> None:
    """The API may rent out machines that this version has not heard of."""
    assert problems(instance_type=new) == []


@pytest.mark.parametrize("new", ["gpu_8x_h200_sxm5", "gpu_2x_h100_sxm5", "h100", "x"])
def test_a_type_that_may_be_new_is_quoted_with_those_that_are_known(new: str) -> None:
    """If it is a typo nevertheless, the warning shows what there is, and advises nothing dearer."""
    (warning,) = inputs.unknown({**GOOD, "instance_type": new})
    assert warning == (
        f"This version does not know the instance type {new}, only gpu_1x_h100_sxm5 and "
        "gpu_8x_h100_sxm5. The API decides whether it exists."
    )


def test_new_sector_is_warned_of() -> None:
    """What the API chose for a machine is passed on to others, and this version may be old."""
    assert problems(sector="sector_4") == []
    (warning,) = inputs.unknown({**GOOD, "sector": "sector_4"})
    assert warning == (
        "This version does not know the sector sector_4, only sector_1, sector_2 and sector_3. The "
        "API decides whether it exists."
    )


@pytest.mark.parametrize("sector", [None, UNKNOWN, *Sector])
@pytest.mark.parametrize("kind", [UNKNOWN, *InstanceType])
def test_known_names_have_no_warning(kind: Any, sector: Any) -> None:
    """Nor does a value that a preview does not know yet."""
    assert list(inputs.unknown({"instance_type": kind, "sector": sector})) == []


@pytest.mark.parametrize("text", ["", "8 x H100", "gpu_8x;rm", "gpü"])
def test_what_can_be_no_name_of_a_type_is_refused(text: str) -> None:
    """A text that no type could be called is refused."""
    (said,) = problems(instance_type=text)
    assert said.startswith("instance_type is not the name of an instance type; known types are ")


@pytest.mark.parametrize(
    "text, hint",
    [
        ("sector1", ": did you mean sector_1?"),
        ("SECTOR_2", ": did you mean sector_2?"),
        ("sector-3", ": did you mean sector_3?"),
        ("sector", ""),
        ("", ""),
        ("eu north", ""),
    ],
)
def test_a_mistyped_sector_is_refused_with_a_hint_where_one_is_near(text: str, hint: str) -> None:
    """A text without a number is near to all three, and so to none."""
    assert problems(sector=text) == [f"sector is not one of sector_1, sector_2, sector_3{hint}"]


@pytest.mark.parametrize("one", ["gpu_1x_h100_sxm5", InstanceType.GPU_1X_H100_SXM5])
def test_a_sector_is_only_for_8x_machines(one: str) -> None:
    """A single GPU has no InfiniBand."""
    (problem,) = problems(instance_type=one)
    assert problem.startswith("sector is for InfiniBand between gpu_8x_h100_sxm5 machines; leave")


@pytest.mark.parametrize("name", inputs.NAMES)
def test_an_unknown_value_is_left_alone(name: str) -> None:
    """In a preview, other resources' outputs are not known."""
    assert problems(**{name: UNKNOWN}) == []


def test_an_unknown_sector_may_still_turn_out_to_be_none() -> None:
    """An unknown sector may turn out to be None, so a 1x machine may have it."""
    assert problems(instance_type="gpu_1x_h100_sxm5", sector=UNKNOWN) == []


SECRETS = st.text("abcdefghijklmnopqrstuvwxyz0123456789/+= \n", min_size=8).map(
    lambda text: f"hunter2{text}"
)


@given(SECRETS, st.sampled_from(inputs.NAMES))
def test_no_problem_repeats_the_value(secret: str, name: str) -> None:
    """A key in the wrong variable must not end up on a screen or in a CI log."""
    assert "hunter2" not in " ".join(problems(**{name: secret}))


STATE = {**GOOD, "ip": "192.0.2.7", "status": "ready"}


@pytest.mark.parametrize(
    "changed, replaced",
    [
        ({}, []),
        ({"instance_type": "gpu_1x_h100_sxm5"}, ["instance_type"]),
        ({"ssh_key": RSA}, ["ssh_key"]),
        ({"ssh_key": f"{ED25519} another comment"}, []),
        ({"sector": "sector_2"}, ["sector"]),
        ({"sector": None}, []),
        (
            {"instance_type": "gpu_8x_b200", "ssh_key": RSA, "sector": "sector_2"},
            list(inputs.REPLACING),
        ),
        ({"instance_type": UNKNOWN}, ["instance_type"]),
        ({"ssh_key": UNKNOWN}, ["ssh_key"]),
        ({"sector": UNKNOWN}, ["sector"]),
    ],
)
def test_a_changed_input_replaces_and_nothing_else_does(
    changed: dict[str, Any], replaced: list[str]
) -> None:
    """Nothing about a machine can be changed in place."""
    assert replacements(STATE, {**GOOD, **changed}) == replaced


IN_SECTOR_3 = {**STATE, "sector": "sector_3"}


@pytest.mark.parametrize(
    "asked, replaced", [(None, []), ("sector_3", []), ("sector_1", ["sector"])]
)
def test_only_a_requested_sector_that_is_not_the_machines_replaces(
    asked: str | None, replaced: list[str]
) -> None:
    """An 8x machine is not given back because a program names the sector that it is in."""
    assert replacements(IN_SECTOR_3, {**GOOD, "sector": asked}) == replaced


def test_an_unknown_sector_may_be_a_change() -> None:
    """An unknown sector counts as a change, so the preview shows the worst."""
    assert replacements(IN_SECTOR_3, {**GOOD, "sector": UNKNOWN}) == ["sector"]


@pytest.mark.parametrize("asked, replaced", [("sector_2", []), ("sector_1", ["sector"])])
def test_a_request_that_an_early_version_recorded_counts_until_the_sector_shows(
    asked: str, replaced: list[str]
) -> None:
    """A sector that an early version recorded as requested counts until the real one shows."""
    olds = {name: value for name, value in STATE.items() if name != "sector"}
    olds["requested_sector"] = "sector_2"
    assert replacements(olds, {**GOOD, "sector": asked}) == replaced
    assert replacements({**olds, "requested_sector": ""}, {**GOOD, "sector": asked}) == []


@pytest.mark.parametrize("name", inputs.REPLACING)
def test_what_state_does_not_know_is_no_change(name: str) -> None:
    """A value that state lacks is no change, as after a bulk import."""
    olds = {key: value for key, value in STATE.items() if key != name}
    assert replacements(olds, GOOD) == []
