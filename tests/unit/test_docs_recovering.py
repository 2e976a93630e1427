"""docs/recovering.md: the table of retries matches the code, and its quotes are tested."""

from __future__ import annotations

import re
from pathlib import Path

from pulumi_fal.api import retry

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "recovering.md").read_text(encoding="utf-8")


def test_the_table_of_retries_is_the_codes_own() -> None:
    """The docs have the table of retries row by row, as the code has it."""
    rows = [
        (
            row.failure,
            _retried(row.repeat),
            _retried(row.repeat and not row.taken),
            ["no", "yes"][row.taken],
        )
        for row in retry.TABLE
    ]
    table = TEXT.partition("## Retries")[2]
    found = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    assert found[1:] == rows


def test_every_quoted_message_is_compared_with_a_real_run() -> None:
    """Every quoted message stands under a heading that an end-to-end test names."""
    sources = "".join(path.read_text() for path in (ROOT / "tests" / "e2e").glob("test_*.py"))
    compared = set(re.findall(r'as_documented\(\s*\w[^"]*"([^"]+)"', sources))
    sections = re.split(r"^##+ ", TEXT, flags=re.MULTILINE)[1:]
    quoted = {section.partition("\n")[0] for section in sections if "```text" in section}
    assert quoted == compared


def test_every_link_within_the_page_leads_somewhere() -> None:
    """Every link within the page leads to a heading that exists."""
    headings = re.findall(r"^##+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def _retried(value: bool) -> str:
    return "retried" if value else "not retried"
