"""Why the emulator refuses a call, as exceptions. Each dialect has its own answer to them."""

from __future__ import annotations


class UnknownMachineError(LookupError):
    """The account sees no machine with this id."""


class NoCapacityError(Exception):
    """The number of machines that `State.capacity` allows already exists."""

    def __init__(self, missing: str, status: int) -> None:
        """`missing` says what there is no room for, as in "for gpu_1x_h100_sxm5"."""
        super().__init__(CAPACITY_ANSWERS[status].format(missing))
        self.status = status


CAPACITY_ANSWERS = {
    400: "no capacity left {}",
    409: "machines are out of stock {}",
    422: "machines are not available {} at the moment",
    429: "no more machines {}, try again later",
    503: "insufficient resources {}",
}
"""What the API may say to a create for want of room, by status. fal documents none of them."""


class KeyReusedError(Exception):
    """An idempotency key was used again for a different create."""
