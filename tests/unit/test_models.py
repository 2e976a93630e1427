"""What is taken from the API's answers, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from pulumi_fal.api.models import Instance, InstanceType, Sector, Status

FULL = {
    "id": "0b9dc5a4-6d3c-4bfe-8b3f-6a0e1a8d5a10",
    "instance_type": "gpu_8x_h100_sxm5",
    "sector": "sector_2",
    "ip": "192.0.2.7",
    "status": "ready",
}


def test_an_instance_has_what_the_api_says() -> None:
    """Each field arrives under the API's own name."""
    assert Instance.from_api(FULL) == Instance(
        id="0b9dc5a4-6d3c-4bfe-8b3f-6a0e1a8d5a10",
        instance_type="gpu_8x_h100_sxm5",
        sector="sector_2",
        ip="192.0.2.7",
        status="ready",
    )


@pytest.mark.parametrize("field", ["sector", "ip"])
@pytest.mark.parametrize("absent", [None, "", "left out"])
def test_an_optional_field_may_be_absent_in_any_way(field: str, absent: str | None) -> None:
    """Null, blank and missing all mean None: `sector` is left out for 1x machines."""
    body: dict[str, Any] = {**FULL, field: absent}
    if absent == "left out":
        del body[field]
    assert getattr(Instance.from_api(body), field) is None


@pytest.mark.parametrize(
    "field, odd, read",
    [
        ("instance_type", None, ""),
        ("instance_type", 8, ""),
        ("sector", {"name": "sector_1"}, None),
        ("ip", ["192.0.2.7"], None),
        ("status", 3, "unknown"),
    ],
)
def test_an_odd_entry_of_a_list_hides_no_other(field: str, odd: object, read: str | None) -> None:
    """It may be anybody's machine: what can't be read of it is left out."""
    body = {**FULL, field: odd}
    assert getattr(Instance.from_list(body), field) == read
    if field != "status":
        assert Instance.from_list(body).status == "ready"


@pytest.mark.parametrize("body", [{**FULL, "id": None}, {**FULL, "id": ""}, {}, None, "text"])
def test_an_entry_of_a_list_without_an_id_is_none(body: object) -> None:
    """It can't be told which machine it is, so nothing can be said of any."""
    with pytest.raises(ValueError, match=r"expected an object|'id' is"):
        Instance.from_list(body)


@pytest.mark.parametrize(
    "told, is_one", [("gpu_8x_h100_sxm5", True), ("", True), ("gpu_1x_h100_sxm5", False)]
)
def test_a_machine_whose_type_is_not_told_may_be_of_any(told: str, is_one: bool) -> None:
    """It must not be passed by as what a lost create has made."""
    assert Instance("i", told).may_be_of("gpu_8x_h100_sxm5") is is_one


def test_a_missing_status_is_unknown() -> None:
    """And so not ready."""
    instance = Instance.from_api({**FULL, "status": None})
    assert instance.status == "unknown"
    assert not instance.is_ready


def test_a_new_status_is_kept_and_is_not_ready() -> None:
    """The API may learn statuses before we do."""
    instance = Instance.from_api({**FULL, "status": "rebooting"})
    assert instance.status == "rebooting"
    assert not instance.is_ready


def test_unknown_fields_and_types_are_no_error() -> None:
    """A newer API may say more."""
    body = {**FULL, "instance_type": "gpu_8x_b200", "region": {"name": "eu"}}
    assert Instance.from_api(body).instance_type == "gpu_8x_b200"


@pytest.mark.parametrize(
    "status, ip, ready",
    [
        ("ready", "192.0.2.7", True),
        ("ready", None, False),
        ("provisioning", "192.0.2.7", False),
        ("READY", "192.0.2.7", False),
    ],
)
def test_ready_takes_the_status_and_an_ip(status: str, ip: str | None, ready: bool) -> None:
    """The list's own example shows an ip while still provisioning."""
    assert Instance.from_api({**FULL, "status": status, "ip": ip}).is_ready is ready


@pytest.mark.parametrize(
    "body, reason",
    [
        (None, "expected an object, not NoneType"),
        ([FULL], "expected an object, not list"),
        ("text", "expected an object, not str"),
        ({}, "'id' is missing"),
        ({**FULL, "id": None}, "'id' is missing"),
        ({**FULL, "id": ""}, "'id' is missing"),
        ({**FULL, "id": 7}, "'id' is not a string"),
        ({**FULL, "instance_type": None}, "'instance_type' is missing"),
        ({**FULL, "ip": ["192.0.2.7"]}, "'ip' is not a string"),
        ({**FULL, "sector": 2}, "'sector' is not a string"),
        ({**FULL, "status": {"is": "ready"}}, "'status' is not a string"),
    ],
)
def test_what_is_no_instance_is_refused_by_field(body: object, reason: str) -> None:
    """A machine without an id could never be deleted."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        Instance.from_api(body)


def test_the_names_are_the_apis() -> None:
    """They are sent as they stand."""
    assert [each.value for each in InstanceType] == ["gpu_8x_h100_sxm5", "gpu_1x_h100_sxm5"]
    assert [each.value for each in Sector] == ["sector_1", "sector_2", "sector_3"]
    assert {each.value for each in Status} == {
        "pending",
        "init",
        "provisioning",
        "ready",
        "unknown",
    }
