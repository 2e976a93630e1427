"""Which refusals of a create mean that there is no room for the machine at present.

Neither API documents this answer. So both have to hold: the status shows that the API certainly
made no machine, and the text speaks of capacity, availability or stock. Any other failure is an
error as ever: waiting does not help against a wrong key, and a create that the API may have carried
out must not be sent again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pulumi_fal.errors import APIError, ConflictError, InvalidRequestError, RateLimitedError


@dataclass(frozen=True)
class Wording:
    """One way in which a text can say that there is no room."""

    says: str
    """A description of the wording."""
    pattern: str
    """What it looks like in whole words, in lower case, with a space for each `_` and `-`."""
    of_machines: bool = False
    """Whether the text must also name what is missing: machines, GPUs, a sector or the like."""


TABLE = (
    Wording("`capacity`", "capacity"),
    Wording("`stock` or `sold out`", "stock|sold out"),
    Wording(
        "`unavailable`, or `no`, `none` or `not` and then `available` or `availability`",
        r"unavailable|(?:no|none|not)\b.*\bavailab(?:le|ility)",
        of_machines=True,
    ),
    Wording(
        "`insufficient`, `not enough`, `no more`, `exhausted`, `full` or `fully`",
        "insufficient|not enough|no more|exhausted|full|fully",
        of_machines=True,
    ),
)
"""The wordings, of which one is needed."""
MACHINES = "machine|instance|gpu|h100|node|server|host|hardware|resource|sector|region|zone"
"""What a text may call machines and the places where they are, also with an `s` at the end."""
OTHER_REASONS = (
    "quota|limit|too many|throttling|throttled|permission|scope|key|credit|balance|billing|payment"
    "|plan|subscription|feature"
)
"""Words for what waiting does not change, also with an `s`. A text with one of them never fits."""


def is_missing(error: APIError) -> bool:
    """Whether this is the error of a create that was refused for want of room."""
    is_refused = isinstance(error, ConflictError | InvalidRequestError | RateLimitedError)
    is_certain = error.method == "POST" and error.status != 408
    return is_refused and is_certain and is_worded_so(error.detail)


def is_worded_so(detail: str) -> bool:
    """Whether a text says that there is no room."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", detail)  # as in InsufficientCapacity
    text = re.sub(r"[\s_-]+", " ", spaced).lower()

    def has(pattern: str) -> bool:
        return re.search(rf"\b(?:{pattern})\b", text) is not None

    if has(f"(?:{OTHER_REASONS})s?"):
        return False
    names_machines = has(f"(?:{MACHINES})s?")
    return any(has(row.pattern) and (names_machines or not row.of_machines) for row in TABLE)
