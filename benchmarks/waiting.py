"""The provider written by hand, if it only had to wait: the time that Pulumi itself takes."""

import os
import time
from typing import Any

from pulumi.dynamic import CreateResult

from benchmarks.naive import Machine, MachineProvider, post
from pulumi_fal.hosts.dynamic import raise_concurrency


class WaitingProvider(MachineProvider):
    def configure(self, _req: Any) -> None:
        raise_concurrency(256)

    def create(self, props: dict[str, Any]) -> CreateResult:
        machine = post(props)
        time.sleep(float(os.environ["BENCHMARK_PROVISIONING"]))
        return CreateResult(machine["id"], {**props, **machine, "status": "ready"})


class WaitingMachine(Machine):
    provider = WaitingProvider()
