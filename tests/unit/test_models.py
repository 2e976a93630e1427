"""The API's names, and what a machine's fields mean."""

from __future__ import annotations

import pytest

from pulumi_fal.api.models import Instance, InstanceType, Sector, Status


@pytest.mark.parametrize(
    "told, is_one", [("gpu_8x_h100_sxm5", True), ("", True), ("gpu_1x_h100_sxm5", False)]
)
def test_a_machine_whose_type_is_not_told_may_be_of_any(told: str, is_one: bool) -> None:
    """A machine without a type may be what an unanswered create has made."""
    assert Instance("i", told).may_be_of("gpu_8x_h100_sxm5") is is_one


def test_the_names_are_the_apis() -> None:
    """The values of the enums are the API's names."""
    assert [(kind.value, kind.gpus, kind.has_infiniband) for kind in InstanceType] == [
        ("gpu_8x_h100_sxm5", 8, True),
        ("gpu_1x_h100_sxm5", 1, False),
    ]
    assert [sector.value for sector in Sector] == ["sector_1", "sector_2", "sector_3"]
    assert {status.value for status in Status} == {
        "pending",
        "init",
        "provisioning",
        "ready",
        "stopped",
        "unknown",
    }


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
    assert Instance("i", "t", ip=ip, status=status).is_ready is ready
