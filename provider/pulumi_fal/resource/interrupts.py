"""What a create says that is interrupted before the API has accepted it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pulumi_fal.errors import Interrupted, JournalError
from pulumi_fal.machines.journal import Journal
from pulumi_fal.stacks.origin import Origin


@contextmanager
def explained(journal: Journal, origin: Origin, instance_type: str) -> Iterator[None]:
    """Say of a create that is interrupted that it has made no machine, and what is on record.

    An interrupt after the POST does not get here: the machine, or what may exist, is named then.
    """
    try:
        yield
    except Interrupted:
        happened = f"The create of machine {origin.name} ({instance_type}) was interrupted."
        raise Interrupted(f"{happened} {_outcome(journal, origin)}") from None


def _outcome(journal: Journal, origin: Origin) -> str:
    try:
        is_on_record = bool(journal.of(origin))
    except JournalError:  # an entry that can't be read may be of this resource
        is_on_record = True
    if is_on_record:
        return (
            "It made no machine, but an earlier create of it is on record.\n"
            "To see what may exist:\n  pulumi-fal pending ls\n"
            "Run the command again to continue."
        )
    return "No machine was created, and nothing is pending.\nRun the command again to create it."
