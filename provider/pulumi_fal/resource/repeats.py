"""What is special about a create that the engine may repeat, if a hook of the program says so.

The engine forgets the results of all attempts but the last. So each of them has to bring the
machine into state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pulumi_fal.errors import VanishedError
from pulumi_fal.resource.call import WARNING, Call, InitFailed
from pulumi_fal.resource.wait import unfinished
from pulumi_fal.stacks.origin import Origin

if TYPE_CHECKING:
    # It needs requests, and most previews never call the API.
    from pulumi_fal.machines.account import Account

LIMIT = 100
"""The engine's limit of attempts. It would record the machine of the last one without its id, if
that one failed, and the engine crashes wherever it finds such a resource in state."""


@contextmanager
def kept(account: Account, origin: Origin, props: Mapping[str, Any]) -> Iterator[None]:
    """Turn every error of a create whose machine is known into partial state."""
    try:
        yield
    except VanishedError:
        raise
    except InitFailed as failed:
        failed.undelivered = undelivered(account, origin)
        raise
    except Exception as error:
        made = account.launcher.attempts.made(origin)
        if made is None:
            raise
        failed_with_machine = unfinished(account, made.machine, props, error)
        failed_with_machine.undelivered = undelivered(account, origin)
        raise failed_with_machine from error


def undelivered(account: Account, origin: Origin) -> Callable[[], None]:
    """Return what the host calls if the result of the present attempt did not reach the engine."""
    launcher = account.launcher
    return launcher.attempts.if_last(origin, partial(launcher.mark_unreported, origin))


def is_last(account: Account, origin: Origin) -> bool:
    """Whether the engine makes no further attempt after this one."""
    return account.launcher.attempts.count(origin) >= LIMIT


def warn_of_limit(call: Call, failed: InitFailed) -> None:
    """Say why the last attempt does not fail, although the machine is not ready."""
    call.log(
        f"{failed.reason} Pulumi stops after {LIMIT} attempts, so the machine is recorded in state "
        "as it is.",
        WARNING,
    )
