"""The wait of a create until the API has room for its machine, and what the row shows of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pulumi_fal.machines.queues import Patience, Waited
from pulumi_fal.resource import durations
from pulumi_fal.resource.call import Call


def patience(call: Call, props: Mapping[str, Any]) -> Patience | None:
    """Return for how long the create waits for room; None if it fails at once."""
    text = props.get("wait_for_capacity")
    if text is None:
        return None
    shown = ""

    def show(waited: Waited) -> None:
        nonlocal shown
        message = _progress(waited)
        if message != shown:
            call.log(message, ephemeral=True)
            shown = message

    return Patience(text, durations.parse(text) or 0.0, show)


def _progress(waited: Waited) -> str:
    # The request id of each answer differs, and a log gets a line for each text.
    said = re.sub(r"\s\(request\sid\s[^)]*\)", "", waited.error.happened)
    passed = durations.rounded(waited.seconds)
    since = f"for {durations.shown(passed)}" if passed else "yet"
    return f"no room {since}, asking until {_time(waited)}: {said}."


def _time(waited: Waited) -> str:
    """Return until when the create waits: the time of day, with the date unless it is today's."""
    now, until = (
        datetime.fromtimestamp(moment, timezone.utc).astimezone()
        for moment in (waited.now, waited.until)
    )
    return until.strftime("%H:%M" if until.date() == now.date() else "%Y-%m-%d %H:%M")
