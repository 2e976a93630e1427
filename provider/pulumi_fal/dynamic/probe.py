"""A provider that uses each seam into the plugin process, to show which ones this SDK has.

It is in a module of its own, since the plugin process imports it.
"""

from __future__ import annotations

import threading
from typing import Any

from pulumi import dynamic

from pulumi_fal.dynamic import lifetime, patches, request
from pulumi_fal.errors import FalError

CALLS = 5
"""At once: one more than the SDK's pool has threads."""
SAID, REASON = "said by the probe", "kept by the probe"

_together = threading.Barrier(CALLS)
_cancelled = threading.Event()


class Probe(dynamic.ResourceProvider):
    """Does what ComputeInstanceProvider does to its host, and tells what came of it."""

    serialize_as_secret_always = False

    def configure(self, req: dynamic.ConfigureRequest) -> None:
        patches.raise_concurrency(CALLS)
        lifetime.on_cancel(_cancelled.set)
        lifetime.on_engine_death(lambda: None)
        patches.without_traceback(FalError)
        patches.route_imports(lambda urn: True, request.current().provider_key)

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        """Whether as many calls are served together as there are in the barrier."""
        try:
            _together.wait(news["seconds"])
        except threading.BrokenBarrierError:
            return dynamic.CheckResult({"together": False}, [])
        return dynamic.CheckResult({"together": True}, [])

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        call = request.current()
        call.log(SAID)
        call.keep_partial_state("kept", {}, REASON)
        raise RuntimeError

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        """What the host has told so far."""
        urn = request.current().urn
        return dynamic.ReadResult(id_, {"urn": urn, "cancelled": _cancelled.is_set()})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        raise FalError(SAID)
