"""The lower bound: the same work without Pulumi, all machines at once, with one poll for all.

Nothing is checked, kept on disk or retried here: no provider can be faster, or send fewer requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from requests.adapters import HTTPAdapter

INTERVAL = 2.0


class Direct:
    """Creates, refreshes and destroys a number of machines, with one method per Pulumi command."""

    def __init__(self, endpoint: Mapping[str, str], machines: int, body: Mapping[str, str]) -> None:
        self._url = endpoint["FAL_COMPUTE_ENDPOINT"] + "/compute/instance"
        self._body = dict(body)
        self._machines = machines
        self._ids: list[str] = []
        self._session = requests.Session()
        self._session.headers["Authorization"] = "Key " + endpoint["FAL_ADMIN_API_KEY"]
        self._session.mount("http://", HTTPAdapter(pool_maxsize=machines))

    def up(self) -> None:
        """Create the machines, and wait until the last one is ready."""
        self._ids = self._each(lambda _: self._call("POST", json=self._body).json()["id"])
        while any(machine["status"] != "ready" for machine in self._after_the_interval()):
            continue

    def again(self) -> None:
        """Do nothing: all machines exist."""

    def refresh(self) -> None:
        """List the machines."""
        self._list()

    def destroy(self) -> None:
        """Delete the machines, and wait until the last one is gone."""
        self._each(lambda number: self._call("DELETE", f"/{self._ids[number]}"))
        while self._after_the_interval():
            continue

    def _each(self, call: Callable[[int], Any]) -> list[Any]:
        with ThreadPoolExecutor(self._machines) as threads:
            return list(threads.map(call, range(self._machines)))

    def _after_the_interval(self) -> list[Any]:
        time.sleep(INTERVAL)
        return self._list()

    def _list(self) -> list[Any]:
        machines: list[Any] = self._call("GET", "s").json()
        return machines

    def _call(self, method: str, path: str = "", **more: Any) -> requests.Response:
        response = self._session.request(method, self._url + path, timeout=60, **more)
        response.raise_for_status()
        return response
