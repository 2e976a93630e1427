"""Which refusals of a create mean that there is no room: the table's rows, and what is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pulumi_fal.api import retry

from ..fakes import CREATE, LIST, refusal, unanswered

ROWS: dict[str, list[str]] = {
    "capacity": [
        "no capacity left in sector_2",
        "Insufficient capacity",
        "OutOfCapacity",
        "insufficient-capacity",
        "gpu_8x_h100_sxm5 is at CAPACITY",
    ],
    "stock|sold out": ["gpu_8x_h100_sxm5 is out of stock", "Sold out.", "Not in stock"],
    r"unavailable|(?:no|none|not)\b.*\bavailab(?:le|ility)": [
        "No GPUs are currently available",
        "instance_type: gpu_8x_h100_sxm5 is not available at the moment",
        "Sector sector_2 is unavailable",
        "no availability for this machine",
    ],
    "insufficient|not enough|no more|exhausted|full|fully": [
        "Insufficient resources",
        "not enough H100s",
        "no more instances",
        "resource_pool_exhausted",
        "sector_3 is full",
        "All nodes are fully booked",
    ],
}
"""For each row's pattern, texts that fit it and no other row."""

OTHERS = [
    "no",
    "Not Found",
    "Too many requests",
    "Too many requests: the service is at capacity",
    "The machine is in a state that does not allow this",
    "ssh_key is not available",
    "The key has no capacity scope",
    "quota exceeded: no more instances in this account",
    "You have reached the limit of 8 GPUs: no capacity",
    "GPUs are not available in your plan",
    "insufficient credit for this instance",
    "insufficient balance: no machine available",
    "instance_type: Input should be 'gpu_8x_h100_sxm5' or 'gpu_1x_h100_sxm5'",
    "sector: Value error, sector is only for gpu_8x_h100_sxm5",
    "the idempotency key came with another create before",
    "this endpoint is not available",
    "incapacity",
    "a full name is needed",
]
"""Texts that say something else."""


def test_every_row_has_texts_that_fit_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that no text needs would be documented in vain."""
    table = retry.WORDINGS
    assert list(ROWS) == [row.pattern for row in table]
    for row in table:
        for text in ROWS[row.pattern]:
            monkeypatch.setattr(retry, "WORDINGS", (row,))
            assert retry.lacks_capacity(refusal(409, text, CREATE)), text
            monkeypatch.setattr(retry, "WORDINGS", tuple(other for other in table if other != row))
            assert not retry.lacks_capacity(refusal(409, text, CREATE)), text


@pytest.mark.parametrize("text", OTHERS)
def test_a_text_about_anything_else_is_not_for_want_of_room(text: str) -> None:
    """Waiting does not help against a quota, a wrong key or a wrong input."""
    assert not retry.lacks_capacity(refusal(409, text, CREATE))
    assert not retry.lacks_capacity(refusal(422, text, CREATE))


@pytest.mark.parametrize("status", [400, 409, 410, 412, 422, 429])
def test_a_status_that_certainly_made_nothing_may_be_for_want_of_room(status: int) -> None:
    """Neither API documents the status."""
    error = refusal(status, "no capacity left", CREATE)
    assert not retry.may_have_made_a_machine(error)
    assert retry.lacks_capacity(error)


@pytest.mark.parametrize("status", [307, 401, 403, 404, 408, 500, 502, 503, 504, 522])
def test_any_other_status_is_not_for_want_of_room(status: int) -> None:
    """It is about the key or the address, or the API may have made a machine."""
    assert not retry.lacks_capacity(refusal(status, "no capacity left", CREATE))


def test_a_create_without_an_answer_is_not_for_want_of_room() -> None:
    """It may have made a machine, or never reached the API."""
    assert not retry.lacks_capacity(unanswered(CREATE, sent=True))
    assert not retry.lacks_capacity(unanswered(CREATE, sent=False))


def test_only_a_create_can_lack_room() -> None:
    """The list before it may be refused as well."""
    assert not retry.lacks_capacity(refusal(409, "no capacity left", LIST))


def test_the_docs_have_the_table() -> None:
    """A person whose create fails at once has to find out why."""
    page = (Path(__file__).parents[2] / "docs" / "capacity.md").read_text()
    section = page.partition("## Which refusals count")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (.+?) \| (needed|not needed) \|$", section)
    assert rows == [
        (row.says, "needed" if row.of_machines else "not needed") for row in retry.WORDINGS
    ]
    for word in retry.MACHINES.split("|"):
        assert word in ("h100", "hardware") or word in section.lower(), word
    for word in retry.OTHER_REASONS.split("|"):
        assert word.removesuffix("ed") in section, word
