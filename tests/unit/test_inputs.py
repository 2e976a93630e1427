"""The properties of a machine: what is wrong with inputs, and which changes make another machine.

What is wrong is said without the values.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulumi_fal.api.models import HOW, Instance, InstanceType, Sector
from pulumi_fal.compute_cluster import ComputeCluster, ComputeClusterArgs
from pulumi_fal.compute_instance import ComputeInstance, ComputeInstanceArgs
from pulumi_fal.resource import inputs
from pulumi_fal.resource.call import UNKNOWN
from pulumi_fal.resource.inputs import CLUSTER_FIELDS, FIELDS

from ..fakes import ED25519, RSA

GOOD = {"instance_type": "gpu_8x_h100_sxm5", "ssh_key": ED25519, "sector": "sector_1"}


def problems(**changed: Any) -> list[str]:
    return [failure.reason for failure in inputs.failures({**GOOD, **changed})]


# The table of properties.


def of(cls: type, *, own: bool = False) -> set[str]:
    """The names of a dataclass's fields, or of what a resource declares."""
    names = inspect.get_annotations(cls) if own else (f.name for f in dataclasses.fields(cls))
    return set(names)


INPUTS = {field.name for field in FIELDS if field.is_input}


@pytest.mark.parametrize(
    "declared, expected",
    [
        (of(ComputeInstanceArgs), INPUTS),
        (of(ComputeInstance, own=True), {field.name for field in FIELDS if field.is_output}),
        (of(ComputeClusterArgs), INPUTS | {f.name for f in CLUSTER_FIELDS if f.is_input}),
        (of(ComputeCluster, own=True), {f.name for f in CLUSTER_FIELDS if f.is_output}),
    ],
    ids=["arguments", "outputs", "cluster's arguments", "cluster's outputs"],
)
def test_declared(declared: set[str], expected: set[str]) -> None:
    """What programs set and read is in the table."""
    assert declared == expected


def test_fields() -> None:
    """What is no input, or is known late, comes from the API. Only an input replaces."""
    shown = {field.name for field in FIELDS if field.is_late or not field.is_input}
    assert shown <= of(Instance)
    assert {field.name for field in FIELDS if field.replaces} <= INPUTS


# What is wrong with inputs.

ONE, EIGHT = "gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"
MEANT = "instance_type is not a known instance type: did you mean {}?"
NO_TYPE = f"instance_type is not the name of an instance type; known types are {ONE} and {EIGHT}"
NO_SECTOR = "sector is not one of sector_1, sector_2, sector_3"
ONLY_EIGHT = (
    f"sector is for InfiniBand between {EIGHT} machines; leave it out with a type that has none"
)
NOT_AWAITED = (
    "wait_for_ssh is True, but wait is False, so nothing would be awaited; leave one of them out"
)
PROBLEMS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"sector": Sector.SECTOR_3, "instance_type": InstanceType.GPU_8X_H100_SXM5}, []),
    ({"instance_type": ONE, "sector": None}, []),
    ({"ssh_key": f"{RSA} a comment\n"}, []),
    # A value that is not known yet may be a good one: an unknown sector may be None.
    *(({name: UNKNOWN}, []) for name in inputs.NAMES),
    ({"instance_type": ONE, "sector": UNKNOWN}, []),
    # The API may have types and sectors that this version has not heard of.
    *(({"instance_type": kind}, []) for kind in ("gpu_8x_h200_sxm5", "gpu_8x_b200", "cpu.large")),
    ({"sector": "sector_4"}, []),
    # Numbers come from YAML and JSON, and "false" of a config file would mean True.
    *(({name: 7.0}, [f"{name} must be a string, not of type float"]) for name in inputs.REPLACING),
    ({"max_age": 6}, ["max_age must be a duration such as '6h', not of type int"]),
    ({"max_age": "1d12h"}, []),
    (
        {"max_age": "12"},
        ["max_age must be a duration of at most 30 days such as 6h, 30m or 1h30m, not '12'"],
    ),
    *(
        ({name: "false"}, [f"{name} must be True or False, not of type str"])
        for name in ("wait", "wait_for_ssh")
    ),
    ({"wait_for_ssh": True, "wait": UNKNOWN}, []),
    ({"wait_for_ssh": True, "wait": False}, [NOT_AWAITED]),
    *(({"wait_for_ssh": ssh, "wait": False}, []) for ssh in (None, False, UNKNOWN)),
    # All problems are told at once.
    (
        {"instance_type": None, "ssh_key": " ", "sector": "no where"},
        ["instance_type is missing", f"ssh_key is blank. {HOW}", NO_SECTOR],
    ),
    *(
        ({"instance_type": slip, "sector": None}, [MEANT.format(meant)])
        for slip, meant in {
            "gpu_8x_h100_sxm": EIGHT,
            "GPU_1X_H100_SXM5": ONE,
            "gpu-8x-h100-sxm5": EIGHT,
            "gpu_h100_sxm5": EIGHT,
        }.items()
    ),
    *(({"instance_type": text}, [NO_TYPE]) for text in ("", "8 x H100", "gpü")),
    ({"sector": "sector1"}, [f"{NO_SECTOR}: did you mean sector_1?"]),
    # Without a number, it is near to all three, and so to none.
    *(({"sector": text}, [NO_SECTOR]) for text in ("sector", "", "eu north")),
    *(({"instance_type": one}, [ONLY_EIGHT]) for one in (ONE, InstanceType.GPU_1X_H100_SXM5)),
]


@pytest.mark.parametrize("changed, said", PROBLEMS, ids=[str(changed) for changed, _ in PROBLEMS])
def test_problems(changed: dict[str, Any], said: list[str]) -> None:
    """What is wrong is named by the input and, if it was mistyped, with what was meant."""
    assert problems(**changed) == said


@pytest.mark.parametrize(
    "name, new, known",
    [
        ("instance_type", "gpu_8x_h200_sxm5", f"{ONE} and {EIGHT}"),
        ("sector", "sector_4", "sector_1, sector_2 and sector_3"),
    ],
)
def test_warning(name: str, new: str, known: str) -> None:
    """What may be new is quoted, with what is known, the cheaper first, and no advice."""
    (warning,) = inputs.unknown({**GOOD, name: new})
    assert warning == (
        f"This version does not know the {name.replace('_', ' ')} {new}, only {known}. The API "
        "decides whether it exists."
    )


@pytest.mark.parametrize("sector", [None, UNKNOWN, *Sector])
@pytest.mark.parametrize("kind", [UNKNOWN, *InstanceType])
def test_no_warning(kind: Any, sector: Any) -> None:
    """Nothing is said of a known name, or of a value that is not known yet."""
    assert list(inputs.unknown({"instance_type": kind, "sector": sector})) == []


SECRETS = st.text("abcdefghijklmnopqrstuvwxyz0123456789/+= \n", min_size=8).map(
    lambda text: f"hunter2{text}"
)


@settings(max_examples=30)
@given(SECRETS, st.sampled_from(inputs.NAMES))
def test_secrets(secret: str, name: str) -> None:
    """A key in the wrong variable must not end up on a screen or in a CI log."""
    assert "hunter2" not in " ".join(problems(**{name: secret}))


STATE = {**GOOD, "ip": "192.0.2.7", "status": "ready"}
IN_SECTOR_3 = {**STATE, "sector": "sector_3"}
WITHOUT_SECTOR = {name: value for name, value in STATE.items() if name != "sector"}
EARLY = {**WITHOUT_SECTOR, "requested_sector": "sector_2"}
"""State of an early version, which recorded the sector that was requested."""


KNOWN = inputs.REPLACING


@pytest.mark.parametrize(
    "olds, changed, replaced",
    [
        (STATE, {}, []),
        (STATE, {"instance_type": "gpu_1x_h100_sxm5"}, ["instance_type"]),
        (STATE, {"ssh_key": RSA}, ["ssh_key"]),
        (STATE, {"ssh_key": f"{ED25519} another comment"}, []),
        (STATE, {"sector": "sector_2"}, ["sector"]),
        (STATE, {"sector": None}, []),
        (STATE, {"instance_type": "new", "ssh_key": RSA, "sector": "sector_2"}, list(KNOWN)),
        # A value that is not known yet counts as a change, so that the preview shows the worst.
        *((STATE, {name: UNKNOWN}, [name]) for name in KNOWN),
        # What state does not know, as after a bulk import, is no change.
        *(({key: STATE[key] for key in STATE if key != name}, {}, []) for name in KNOWN),
        # An 8x machine is not given back because a program names the sector that it is in.
        (IN_SECTOR_3, {"sector": None}, []),
        (IN_SECTOR_3, {"sector": "sector_3"}, []),
        (IN_SECTOR_3, {"sector": "sector_1"}, ["sector"]),
        (EARLY, {"sector": "sector_2"}, []),
        (EARLY, {"sector": "sector_1"}, ["sector"]),
        ({**EARLY, "requested_sector": ""}, {"sector": "sector_2"}, []),
    ],
)
def test_replaces(olds: dict[str, Any], changed: dict[str, Any], replaced: list[str]) -> None:
    """Nothing about a machine can be changed in place."""
    assert inputs.replacements(olds, {**GOOD, **changed}) == replaced
