"""Finds the URN of a create by its inputs, for SDKs in which request.py can't find it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any


class Urns:
    """The URNs that the program passed to check(), by the inputs that were checked.

    Resources of one stack with equal inputs are interchangeable, so any of their URNs will do. One
    whose earlier create may have left a machine that is not in state is taken first, even if the
    program has not declared it in this run, or not yet.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._urns: dict[str, list[str]] = {}
        self._taken: set[str] = set()

    def add(self, urn: str, checked: Mapping[str, Any]) -> None:
        """Remember the inputs of the resource with this URN."""
        with self._lock:
            self._taken.discard(urn)
            urns = self._urns.setdefault(_key(checked), [])
            if urn and urn not in urns:
                urns.append(urn)

    def take(
        self, props: Mapping[str, Any], unresolved_like: Callable[[str], Iterable[str]]
    ) -> str:
        """Return the URN of a resource with these inputs, but none twice; "" if there is none left.

        `unresolved_like` returns, for such a URN, those of its stack whose earlier create had these
        inputs and may have left a machine that is not in state.
        """
        with self._lock:
            known = self._urns.get(_key(props)) or []
            left = [urn for urn in known if urn not in self._taken]
            if not left:
                return ""
            unresolved = (urn for urn in unresolved_like(left[-1]) if urn not in self._taken)
            urn = next(unresolved, left[-1])
            self._taken.add(urn)
            return urn


def _key(props: Mapping[str, Any]) -> str:
    return json.dumps({name: str(value) for name, value in props.items()}, sort_keys=True)
