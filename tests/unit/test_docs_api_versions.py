"""docs/api-versions.md and recovering.md say what becomes of a create under each API."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api.dialects import KEPT_SECONDS, Request
from pulumi_fal.api.settings import API, ENDPOINTS, Settings
from pulumi_fal.emulator.faults import Fault
from pulumi_fal.errors import FalError, UnresolvedCreateError
from pulumi_fal.machines.journal import KEY_SECONDS
from pulumi_fal.machines.lifecycle import STOPPED_SECONDS
from pulumi_fal.resource import operations

from ..docs import ROOT
from ..fakes import ECDSA, UNSENT, refusal, unanswered
from .test_v1 import CALL, INPUTS, LEGACY, V1, Stack

PAGE = (ROOT / "docs" / "api-versions.md").read_text(encoding="utf-8")
RECOVERING = (ROOT / "docs" / "recovering.md").read_text(encoding="utf-8")
AGAIN, STOPS, FAILS = "sent again", "`up` stops", "`up` fails: there is no machine"


class Killed(BaseException):
    """The process ends here."""


class TroubledStack(Stack):
    """A stack whose first create meets trouble."""

    def outcome(self, used: Settings, **inputs: str) -> str:
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

    def answer(self, *statuses: int) -> None:
        """The first attempts get these statuses; 0 is no answer to one that was taken."""
        left = list(statuses)

        def before(request: Request[Any]) -> None:
            if request.kind == "create" and left and left[0]:
                raise refusal(left.pop(0), "no", request)

        def after(request: Request[Any]) -> None:
            if request.kind == "create" and left:
                left.pop(0)
                raise unanswered(request)

        self.legacy.before, self.legacy.after = before, after

    def kill(self, used: Settings) -> None:
        """A process sends a create, and ends before the answer comes."""

        def end(request: Request[Any]) -> None:
            if request.kind == "create":
                raise Killed

        self.legacy.after = end
        with pytest.raises(Killed):
            operations.create(self.provider(used), CALL, INPUTS)
        self.legacy.after = lambda request: None

    def meet(self, trouble: Trouble, used: Settings) -> str:
        """What the `up` does that meets the trouble, or the next one after a kill."""
        if isinstance(trouble, dict):
            self.kill(used)
            inputs = dict(trouble)
            self.clock.time += inputs.pop("later", 0)
            account = replace(used, api_key=inputs.pop("account", used.api_key))
            return self.outcome(account, **inputs)
        if isinstance(trouble, tuple):
            self.answer(*trouble)
        else:
            self.legacy.faults.add("create", trouble)
        return self.outcome(used)


Trouble = str | Fault | tuple[int, ...] | dict[str, Any]
"""A fault of the emulator, the statuses of the first attempts, or what is other after a kill."""
FOUR_HUNDREDS = (400, 401, 403, 404, 422)
SERVER_ERRORS = ("500", "500_after", "502", "503", "504", "522")
ROWS: dict[str, list[Trouble]] = {
    "it can't be sent, or gets 429": [UNSENT, "429"],
    "it is sent, then reset or timed out": ["reset_before", "reset_after", "late"],
    "it gets 408 or a 5xx": [*SERVER_ERRORS, (408,)],
    "it gets HTML, a part of a body, or JSON without an id": [
        *("html", "html_after", "truncated", "wrong_shape", "empty")
    ],
    "it gets a redirect": ["redirect"],
    "it gets 409": [(409,)],
    "it gets any other 4xx": [(status,) for status in FOUR_HUNDREDS],
    "an earlier attempt got no response, and this one gets 409": [(0, 409)],
    "an earlier attempt got no response, and this one gets any other 4xx": [
        (0, status) for status in FOUR_HUNDREDS
    ],
    "the plugin is killed, and `up` runs within 9 minutes": [{}, {"later": KEY_SECONDS - 10}],
    "the plugin is killed, and `up` runs later": [{"later": KEY_SECONDS}],
    "the plugin is killed, and `up` runs with other inputs": [
        {"ssh_key": ECDSA},
        {"instance_type": "gpu_8x_h100_sxm5"},
    ],
    "the plugin is killed, and `up` runs with another account's key": [{"account": "another"}],
}


def table(text: str) -> dict[str, list[str]]:
    """The rows with three columns, without their heads."""
    lines = [line.split(" | ") for line in re.findall(r"(?m)^\| ?(.*) \|$", text)]
    rows = [row for row in lines if len(row) == 3 and "legacy API" not in row]
    return {what: cells for what, *cells in rows}


CREATES = table(RECOVERING.partition("### What each API does")[2].partition("\n### ")[0])


@pytest.mark.parametrize("column, used", [(0, LEGACY), (1, V1)], ids=["legacy", "v1"])
@pytest.mark.parametrize(
    "what, trouble",
    [(what, trouble) for what, troubles in ROWS.items() for trouble in troubles],
)
def test_create(tmp_path: Path, what: str, trouble: Trouble, column: int, used: Settings) -> None:
    """A create ends as the table says, in each of the ways that a row names."""
    assert list(CREATES) == list(ROWS)
    said = CREATES[what][column].partition(", because")[0]
    stack = TroubledStack(tmp_path, is_known=True)
    found = stack.meet(trouble, used)
    if said == "not sent again":
        assert len(stack.legacy.keys) == 1
    else:
        assert found == said
    assert stack.legacy.state.creations <= 1
    if used is V1 and said == AGAIN:
        assert len(set(stack.legacy.keys)) == 1


def test_settings() -> None:
    """The pages have the times, the default and the addresses of the code."""
    assert (KEY_SECONDS, KEPT_SECONDS, STOPPED_SECONDS) == (9 * 60, 10 * 60, 60)
    for text in (PAGE, RECOVERING):
        assert "9 minutes" in text
        assert "10 minutes for each" in text
    settings = table(PAGE)
    assert settings["setting"] == [f"`{API.default}`, the default", "`v1`"]
    assert settings["default endpoint"] == [f"`{ENDPOINTS['legacy']}`", f"`{ENDPOINTS['v1']}`"]
