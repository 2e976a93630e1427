"""Checks a resource's inputs, and brings them into the form in which state has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pulumi_fal.resource import cluster, inputs
from pulumi_fal.resource.call import Call
from pulumi_fal.resource.inputs import Failure


@dataclass(frozen=True)
class Checked:
    """The inputs as they are stored in state, and every problem with them."""

    inputs: dict[str, Any]
    failures: list[Failure]


def check(call: Call, olds: Mapping[str, Any], news: Mapping[str, Any]) -> Checked:
    """Return the normalized inputs and all problems with them. Works offline.

    A key that differs from the old one only in its comment is replaced by the old one. `olds` are
    the old inputs; they are empty for a new resource and before a replacement.
    """
    checked = {name: news[name] for name in inputs.NAMES if news.get(name) is not None}
    if checked.get("wait") is True:
        del checked["wait"]  # True is the default, so setting it must not count as a change
    if checked.get("wait_for_ssh") is False:
        del checked["wait_for_ssh"]  # as above
    failures = [
        failure
        for failure in inputs.failures(news)
        # The others have the sector that the API chose for the first, or that the first's check has
        # found a problem with.
        if not (failure.property == "sector" and cluster.follows(call))
    ]
    if not failures and not inputs.replacements(
        {"ssh_key": olds.get("ssh_key")}, {"ssh_key": news["ssh_key"]}
    ):
        checked["ssh_key"] = olds.get("ssh_key") or news["ssh_key"]
    for warning in () if failures else inputs.unknown(checked):
        call.warn_once(warning)
    return Checked(checked, failures)
