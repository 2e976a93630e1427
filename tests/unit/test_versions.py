"""An answer of the other version of the API is told from one of something else."""

from __future__ import annotations

from typing import Any

import pytest

from pulumi_fal.api.client import Client
from pulumi_fal.api.dialects import mismatch
from pulumi_fal.errors import UnusableAnswerError

from ..fakes import EIGHT, settings

MACHINE = {"id": "i-1", "instance_type": EIGHT}
V1 = "as the v1 API answers, although FAL_COMPUTE_API (or fal:api) is legacy"
LEGACY = "as the legacy API answers, although FAL_COMPUTE_API (or fal:api) is v1"


@pytest.mark.parametrize(
    "api, body, expected",
    [
        ("legacy", {"instances": [MACHINE], "next_cursor": None, "has_more": False}, V1),
        ("legacy", {"instances": []}, V1),
        ("v1", [MACHINE], LEGACY),
        ("v1", [], LEGACY),
        ("v1", {"detail": "Not Found"}, LEGACY),
        ("v1", {"detail": "Method Not Allowed"}, LEGACY),
        ("legacy", [MACHINE], ""),
        ("legacy", {"detail": "Not Found"}, ""),
        ("legacy", {"instances": "of something else"}, ""),
        ("v1", {"instances": []}, ""),
        ("v1", {"error": {"type": "not_found", "message": "Not Found"}}, ""),
        ("v1", {"detail": [{"msg": "no capacity"}]}, ""),
        ("v1", "text", ""),
        ("v1", None, ""),
    ],
)
def test_an_answer_of_the_other_version_is_recognized(api: str, body: Any, expected: str) -> None:
    """The setting is named only if the answer shows that it may be wrong."""
    assert mismatch(api, body) == expected


@pytest.mark.parametrize(
    "api, body, expected", [("legacy", {"instances": []}, V1), ("v1", [], LEGACY)]
)
def test_a_list_of_the_other_version_names_the_setting(api: str, body: Any, expected: str) -> None:
    """Nothing is wrong with the endpoint if the version is."""
    client = Client(settings(api=api, retry_budget=0), send=lambda request, timeout: body)
    with pytest.raises(UnusableAnswerError) as caught:
        client.list_instances()
    assert caught.value.detail == f"JSON {expected}"
