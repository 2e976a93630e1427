"""docs/api-versions.md and the table of recovering.md: what each API does, as the code does it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api import v1
from pulumi_fal.api.options import API
from pulumi_fal.api.request import Request
from pulumi_fal.api.settings import ENDPOINTS, Settings
from pulumi_fal.emulator.faults import Fault
from pulumi_fal.errors import ElsewhereError, FalError, UnresolvedCreateError
from pulumi_fal.machines.entry import KEY_SECONDS
from pulumi_fal.machines.lifecycle import STOPPED_SECONDS
from pulumi_fal.resource import operations

from ..docs import ROOT
from ..fakes import ECDSA, UNSENT, refusal, unanswered
from .test_api_change import CALL, INPUTS, LEGACY, V1, Stack

PAGE = (ROOT / "docs" / "api-versions.md").read_text(encoding="utf-8")
RECOVERING = (ROOT / "docs" / "recovering.md").read_text(encoding="utf-8")

AGAIN, STOPS, FAILS = "sent again", "`up` stops", "`up` fails: there is no machine"


class Killed(BaseException):
    """The process ends here."""


class TroubledStack(Stack):
    """A stack whose first create meets something."""

    def create_with(self, used: Settings, **inputs: str) -> str:
        """What `up` does, in the words of the table."""
        sent = len(self.legacy.keys)
        try:
            operations.create(self.provider(used), CALL, {**INPUTS, **inputs})
        except UnresolvedCreateError:
            return STOPS
        except FalError:
            assert self.legacy.state.alive() == set()
            return FAILS
        assert len(self.legacy.state.alive()) == 1
        assert len(self.legacy.keys) > sent
        return AGAIN

    def kill(self, used: Settings) -> None:
        """A process that sends a create, and ends before the answer comes."""

        def end(request: Request[Any]) -> None:
            if request.kind == "create":
                raise Killed

        self.legacy.after = end
        with pytest.raises(Killed):
            operations.create(self.provider(used), CALL, INPUTS)
        self.legacy.after = lambda request: None


Play = Callable[[TroubledStack, Settings], str]


def meets(fault: str | Fault) -> Play:
    """The first attempt of a create meets this fault."""

    def outcome(stack: TroubledStack, used: Settings) -> str:
        stack.legacy.faults.add("create", fault)
        return stack.create_with(used)

    return outcome


def answered(*statuses: int) -> Play:
    """The first attempts get these statuses; 0 stands for no answer to one that was taken."""

    def outcome(stack: TroubledStack, used: Settings) -> str:
        left = list(statuses)

        def before(request: Request[Any]) -> None:
            if request.kind == "create" and left and left[0]:
                raise refusal(left.pop(0), "no", request)

        def after(request: Request[Any]) -> None:
            if request.kind == "create" and left:
                left.pop(0)
                raise unanswered(request)

        stack.legacy.before, stack.legacy.after = before, after
        return stack.create_with(used)

    return outcome


def killed(seconds: float = 0, account: str = "", **inputs: str) -> Play:
    """After a kill, the next `up` runs so much later, with that key and those inputs."""

    def outcome(stack: TroubledStack, used: Settings) -> str:
        stack.kill(used)
        stack.clock.time += seconds
        return stack.create_with(replace(used, api_key=account or used.api_key), **inputs)

    return outcome


ROWS: dict[str, list[Play]] = {
    "it can't be sent, or gets 429": [meets(UNSENT), meets("429")],
    "it is sent, then reset or timed out": [
        meets(name) for name in ("reset_before", "reset_after", "late")
    ],
    "it gets 408 or a 5xx": [
        *(meets(name) for name in ("500", "500_after", "502", "503", "504", "522")),
        answered(408),
    ],
    "it gets HTML, a part of a body, or JSON without an id": [
        meets(name) for name in ("html", "html_after", "truncated", "wrong_shape", "empty")
    ],
    "it gets a redirect": [meets("redirect")],
    "it gets 409": [answered(409)],
    "it gets any other 4xx": [answered(status) for status in (400, 401, 403, 404, 422)],
    "an earlier attempt got no response, and this one gets 409": [answered(0, 409)],
    "an earlier attempt got no response, and this one gets any other 4xx": [
        answered(0, status) for status in (400, 401, 403, 404, 422)
    ],
    "the plugin is killed, and `up` runs within 9 minutes": [killed(), killed(KEY_SECONDS - 10)],
    "the plugin is killed, and `up` runs later": [killed(KEY_SECONDS)],
    "the plugin is killed, and `up` runs with other inputs": [
        killed(ssh_key=ECDSA),
        killed(instance_type="gpu_8x_h100_sxm5"),
    ],
    "the plugin is killed, and `up` runs with another account's key": [killed(account="another")],
}


def rows(text: str) -> list[list[str]]:
    """The rows of the tables in it that have three columns, without their heads."""
    lines = re.findall(r"(?m)^\| ?(.*) \|$", text)
    cells = [line.split(" | ") for line in lines]
    return [row for row in cells if len(row) == 3 and "legacy API" not in row]


def table() -> dict[str, list[str]]:
    section = RECOVERING.partition("### What each API does")[2].partition("\n### ")[0]
    return {what: outcomes for what, *outcomes in rows(section)}


def test_the_table_of_creates_has_the_rows_that_are_tested() -> None:
    """A row that nobody tests may be wrong."""
    assert list(table()) == list(ROWS)


@pytest.mark.parametrize("column, used", [(0, LEGACY), (1, V1)], ids=["legacy", "v1"])
@pytest.mark.parametrize("what", ROWS)
def test_a_create_ends_as_the_table_says(
    tmp_path: Path, what: str, column: int, used: Settings
) -> None:
    """Each row is played under each API, in each of the ways that it names."""
    said = table()[what][column].partition(", because")[0]
    for number, play in enumerate(ROWS[what]):
        stack = TroubledStack(tmp_path / str(number), is_known=True)
        found = play(stack, used)
        if said == "not sent again":
            assert len(stack.legacy.keys) == 1
        else:
            assert found == said
        assert stack.legacy.state.creations <= 1
        if used is V1 and said == AGAIN:
            assert len(set(stack.legacy.keys)) == 1


def test_the_times_are_the_codes_own() -> None:
    """Both pages name the minutes of the code."""
    assert (KEY_SECONDS, v1.KEPT_SECONDS, STOPPED_SECONDS) == (9 * 60, 10 * 60, 60)
    for text in (PAGE, RECOVERING):
        assert "9 minutes" in text
        assert "10 minutes for each" in text


def test_the_page_has_the_settings_as_they_are() -> None:
    """The default, and where each API is."""
    settings = {what: cells for what, *cells in rows(PAGE)}
    assert settings["setting"] == [f"`{API.default}`, the default", "`v1`"]
    assert settings["default endpoint"] == [f"`{ENDPOINTS['legacy']}`", f"`{ENDPOINTS['v1']}`"]


def test_the_page_quotes_the_message_of_a_machine_that_v1_does_not_know(tmp_path: Path) -> None:
    """The message in the docs is the one that is raised, but for the id."""
    stack = Stack(tmp_path, is_known=False)
    id_ = stack.create()
    with pytest.raises(ElsewhereError) as caught:
        stack.refresh(V1, id_)
    (quoted,) = re.findall(r"(?ms)^```text\n(Machine .*?)\n```$", PAGE)
    example = re.findall(r"Machine (\S+)", quoted)[0]
    assert str(caught.value) == quoted.replace(example, id_)
