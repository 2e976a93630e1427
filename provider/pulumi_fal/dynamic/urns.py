"""Finds the URN of a create by its inputs, for SDKs in which request.py can't find it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any


class Urns:
    """The URNs that the program passed to check(), by the inputs that were checked.

    Resources of one stack with equal inputs are interchangeable, so any of their URNs will do. A
    URN whose earlier create may have left a machine that is not in state is taken first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._urns: dict[str, list[str]] = {}

    def add(self, urn: str, checked: Mapping[str, Any]) -> None:
        """Remember the inputs of the resource with this URN."""
        with self._lock:
            urns = self._urns.setdefault(_key(checked), [])
            if urn and urn not in urns:
                urns.append(urn)

    def take(self, props: Mapping[str, Any], has_unresolved_create: Callable[[str], bool]) -> str:
        """Remove and return a URN of a resource with these inputs; "" if there is none left."""
        with self._lock:
            urns = self._urns.get(_key(props))
            if not urns:
                return ""
            urn = next(filter(has_unresolved_create, urns), urns[-1])
            urns.remove(urn)
            return urn


def _key(props: Mapping[str, Any]) -> str:
    return json.dumps({name: str(value) for name, value in props.items()}, sort_keys=True)
