"""A stack of either host, for the stories that both must tell alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import native
from .harness import Stack, fresh, machine
from .native import NativeStack
from .recovery import PATIENCE

MACHINES = {Stack: machine, NativeStack: native.machine}
"""A program's lines for one machine, by the kind of stack."""


@contextmanager
def one_machine(
    kind: type[Stack], new_stack: Path, folder: Path, endpoint: dict[str, str]
) -> Iterator[Stack]:
    """Yield a stack as from `fresh`, whose program declares one machine."""
    with fresh(kind, new_stack, folder, endpoint) as stack:
        stack.env |= PATIENCE
        stack.write(MACHINES[kind]())
        yield stack
