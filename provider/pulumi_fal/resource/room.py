"""The wait of a create until the API has room for its machine, and what the row shows of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pulumi_fal.machines.process import Machines
from pulumi_fal.machines.queues import Patience, Waited
from pulumi_fal.resource import cluster, durations
from pulumi_fal.resource.call import Call


def patience(machines: Machines, call: Call, props: Mapping[str, Any]) -> Patience | None:
    """Return for how long the create waits for room; None if it fails at once."""
    text = props.get("wait_for_capacity")
    if text is None:
        return None
    shown, until = "", 0.0

    def show(waited: Waited) -> None:
        nonlocal shown, until
        if abs(waited.until - until) >= 60.0:  # by rounding, the minute would go to and fro
            until = waited.until
        progress = _progress(waited, _time(until, waited.now))
        message = f"{progress} {cluster.billing(machines, call)}".rstrip()
        if message != shown:
            call.log(message, ephemeral=True)
            shown = message

    return Patience(text, durations.parse(text) or 0.0, show)


def _progress(waited: Waited, until: str) -> str:
    # The request id of each answer differs, and a log gets a line for each text.
    said = re.sub(r"\s\(request\sid\s[^)]*\)", "", waited.error.happened)
    passed = durations.in_words(waited.seconds)
    return f"no room {f'for {passed}' if passed else 'yet'}, asking until {until}: {said}."


def _time(moment: float, now: float) -> str:
    """Return the time of day, with the date unless that is today."""
    local = datetime.fromtimestamp(moment, timezone.utc).astimezone()
    today = datetime.fromtimestamp(now, timezone.utc).astimezone().date()
    return local.strftime("%H:%M" if local.date() == today else "%Y-%m-%d %H:%M")
