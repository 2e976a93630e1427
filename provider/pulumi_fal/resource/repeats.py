"""What is special about a create that the engine may repeat, if a hook of the program says so.

The engine forgets the results of all attempts but the last. So each of them has to bring the
machine into state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pulumi_fal.errors import VanishedError
from pulumi_fal.machines.process import Machines
from pulumi_fal.machines.records import Records
from pulumi_fal.resource.call import WARNING, Call, InitFailed
from pulumi_fal.resource.wait import unfinished
from pulumi_fal.stacks.origin import Origin

LIMIT = 100
"""The engine's limit of attempts. It would record the machine of the last one without its id, if
that one failed, and the engine crashes wherever it finds such a resource in state."""


@contextmanager
def kept(
    machines: Machines, call: Call, origin: Origin, props: Mapping[str, Any]
) -> Iterator[None]:
    """Turn every error of a create whose machine is known into partial state."""
    records = machines.creates.records
    try:
        yield
    except VanishedError:
        raise
    except InitFailed as failed:
        failed.undelivered = records.undelivered(origin)
        raise
    except Exception as error:
        made = records.made(origin)
        if made is None:
            raise
        failed_with_machine = unfinished(machines, call, made.machine, props, error)
        failed_with_machine.undelivered = records.undelivered(origin)
        if call.is_heard():
            # Otherwise a later create that replaces the machine could resume with it.
            records.mark_reported(origin, seen=made.entry.seen, has_lock=False)
        raise failed_with_machine from error


def is_last(records: Records, origin: Origin) -> bool:
    """Whether the engine makes no further attempt after this one."""
    return records.count(origin) >= LIMIT


def warn_of_limit(call: Call, failed: InitFailed) -> None:
    """Say why the last attempt does not fail, although the machine is not ready."""
    call.log(
        f"{failed.reason}\nPulumi stops after {LIMIT} attempts, so the machine is recorded in "
        "state as it is.",
        WARNING,
    )
