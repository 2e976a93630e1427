"""A provider that uses every patch of the plugin host, for host_probe to see which ones work.

It is a separate module because the plugin process imports it.
"""

from __future__ import annotations

import threading
from typing import Any

from pulumi import dynamic

from pulumi_fal.dynamic import lifetime, patches, request
from pulumi_fal.errors import FalError

CALLS = 5
"""How many calls are made at once: one more than the SDK's pool has threads."""
TEXT, REASON = "text of the probe", "reason of the probe"

_together = threading.Barrier(CALLS)
_cancelled = threading.Event()


class Probe(dynamic.ResourceProvider):
    """Patches its host as ComputeInstanceProvider does, and reports whether that worked."""

    serialize_as_secret_always = False

    def configure(self, req: dynamic.ConfigureRequest) -> None:
        patches.raise_concurrency(CALLS)
        lifetime.on_cancel(_cancelled.set)
        lifetime.on_engine_death(lambda: None)
        patches.without_traceback(FalError)
        patches.route_imports(lambda urn: True, request.current().provider_key)

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        """Report whether CALLS calls are served at the same time."""
        try:
            _together.wait(news["seconds"])
        except threading.BrokenBarrierError:
            return dynamic.CheckResult({"together": False}, [])
        return dynamic.CheckResult({"together": True}, [])

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        current = request.current()
        current.log(TEXT)
        current.keep_partial_state("probe", {}, REASON)
        raise RuntimeError

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        """Report the URN of the request, and whether Cancel was received."""
        urn = request.current().urn
        return dynamic.ReadResult(id_, {"urn": urn, "cancelled": _cancelled.is_set()})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        raise FalError(TEXT)
