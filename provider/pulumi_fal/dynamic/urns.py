"""Which resource a create is for, where the host doesn't say: the fallback of request.py."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any


class Urns:
    """The URNs that check() was told of by the program itself, under the inputs that it checked.

    Machines of one stack with equal inputs are as good as one another, so any of them will do. But
    first come those whose earlier create left a machine that state doesn't have.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._urns: dict[str, list[str]] = {}

    def add(self, urn: str, checked: Mapping[str, Any]) -> None:
        """Remember that the resource of this URN has these inputs."""
        with self._lock:
            urns = self._urns.setdefault(_key(checked), [])
            if urn and urn not in urns:
                urns.append(urn)

    def take(self, props: Mapping[str, Any], left_something: Callable[[str], bool]) -> str:
        """A URN that no create was given yet; "" where there is none."""
        with self._lock:
            urns = self._urns.get(_key(props))
            if not urns:
                return ""
            urn = next((each for each in urns if left_something(each)), urns[-1])
            urns.remove(urn)
            return urn


def _key(props: Mapping[str, Any]) -> str:
    return json.dumps({name: str(value) for name, value in props.items()}, sort_keys=True)
