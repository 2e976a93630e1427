"""The baseline: a provider for fal Compute, as one would write it by hand for one's own machines.

It waits until a machine is ready, and until it is gone. Nothing in it is slow on purpose: it uses
`requests` as that library's front page does, and polls every two seconds. But it knows no failures,
and it polls for each machine separately.
"""

import os
import time
from typing import Any

import requests
from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider

INTERVAL = 2.0


def url(path: str) -> str:
    return os.environ["FAL_COMPUTE_ENDPOINT"] + path


def headers() -> dict[str, str]:
    return {"Authorization": "Key " + os.environ["FAL_ADMIN_API_KEY"]}


def get(id_: str) -> Any:
    """The machine, or None if it doesn't exist."""
    answer = requests.get(url(f"/compute/instance/{id_}"), headers=headers(), timeout=60)
    if answer.status_code == 404:
        return None
    answer.raise_for_status()
    return answer.json()


def post(props: dict[str, Any]) -> Any:
    body = {name: props[name] for name in ("instance_type", "ssh_key")}
    answer = requests.post(url("/compute/instance"), json=body, headers=headers(), timeout=60)
    answer.raise_for_status()
    return answer.json()


class MachineProvider(ResourceProvider):
    def create(self, props: dict[str, Any]) -> CreateResult:
        machine = post(props)
        while machine["status"] != "ready":
            time.sleep(INTERVAL)
            machine = get(machine["id"])
        return CreateResult(machine["id"], {**props, **machine})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        machine = get(id_)
        return ReadResult(id_, {**props, **machine}) if machine else ReadResult("", {})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        inputs = ("instance_type", "ssh_key")
        return DiffResult(replaces=[name for name in inputs if _olds[name] != _news[name]])

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        path = url(f"/compute/instance/{_id}")
        requests.delete(path, headers=headers(), timeout=60).raise_for_status()
        while get(_id) is not None:
            time.sleep(INTERVAL)


class Machine(Resource):
    provider: ResourceProvider = MachineProvider()
    ip: Output[str]
    status: Output[str]

    def __init__(
        self,
        name: str,
        instance_type: Input[str],
        ssh_key: Input[str],
        opts: ResourceOptions | None = None,
    ) -> None:
        inputs = {"instance_type": instance_type, "ssh_key": ssh_key, "ip": None, "status": None}
        super().__init__(self.provider, name, inputs, opts)
