"""Refuses calls with the key of another account than the machine's.

No machine can move between accounts, and only its own account can show that it is gone.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import ElsewhereError, FalError
from pulumi_fal.machines.process import Machines
from pulumi_fal.resource.call import Call

_SECONDS = 5.0
"""Seconds that a diff may take to find out whether this account has the machine."""


def refuse_move(
    machines: Machines, call: Call, id_: str, olds: Mapping[str, Any], *, took_over: bool
) -> None:
    """Raise ElsewhereError if the machine in state belongs to another account than this one.

    `olds` are its old outputs. `took_over` says whether it had another provider before. The key of
    that provider may leave state if this does not raise, so it also raises if the API can't be
    asked. Otherwise it does not, because previews work offline. The API is asked only if another
    key than this one saw the machine last.
    """
    account_id = AccountId.of(olds)
    try:
        if machines.ownership.is_own(account_id) or machines.lifecycle.look(id_, _SECONDS):
            return
        if machines.ownership.sees(account_id, lambda: machines.in_state(call.urn)):
            return
    except (FalError, TimeoutError) as error:
        if took_over:
            raise _unknown(id_, account_id, error) from None
        return
    if took_over:
        raise _moved(call.urn, id_, account_id, machines.account_id)
    machines.ownership.refuse_elsewhere(id_, account_id, lambda: ())


def refuse_another(machines: Machines, call: Call, id_: str, props: Mapping[str, Any]) -> None:
    """Raise ElsewhereError unless this account sees the machine, or is the one in state.

    Called before a wait or a delete, because only a machine's own account can show that it is gone.
    """
    is_own = machines.ownership.is_own(AccountId.of(props))
    if not is_own and not machines.lifecycle.look(id_):
        refuse_elsewhere(machines, call, id_, props)


def refuse_elsewhere(machines: Machines, call: Call, id_: str, props: Mapping[str, Any]) -> None:
    """Raise ElsewhereError if a machine that is not seen may belong to another account."""
    machines.ownership.refuse_elsewhere(
        id_,
        AccountId.of(props),
        lambda: machines.in_state(call.urn),
    )


def _moved(urn: str, id_: str, old: AccountId, new: AccountId) -> ElsewhereError:
    return ElsewhereError(
        id_,
        f"Machine {id_} belongs to account {old.account or '?'} at {old.endpoint or '?'}, but the "
        f"resource's provider is now one of account {new.account} at {new.endpoint}, which does "
        "not see it. A machine can't move to another account, so nothing was changed.\n"
        "To keep the machine, give its resource the earlier provider again.\n"
        "To replace it with a new one, and delete it with the key of its earlier provider:\n"
        f"  pulumi up --replace {shlex.quote(urn)}",
    )


def _unknown(id_: str, old: AccountId, error: Exception) -> ElsewhereError:
    problem = str(error).rstrip(".") or "the API did not answer in time"
    return ElsewhereError(
        id_,
        f"Machine {id_} was last seen with another key than that of its new provider (account "
        f"{old.account or '?'} at {old.endpoint or '?'}), and whether both belong to the same "
        f"account is not known: {problem}. Nothing was changed.\n"
        "Run the command again when the API can be reached, or give the resource its earlier "
        "provider again.",
    )
