"""Every failure that this package raises on purpose.

A message has three parts: what happened, to which machine, what to do now. No message and no
attribute ever holds a header, and so never a key.
"""

from __future__ import annotations

from typing import ClassVar


class FalError(Exception):
    """The base of the family."""


class ConfigurationError(FalError):
    """No usable key or endpoint; nothing was sent."""


class Interrupted(FalError):
    """A wait was ended by Ctrl-C or `pulumi cancel`."""

    def __init__(self) -> None:
        super().__init__("interrupted")


class APIError(FalError):
    """A call that did not end in a usable answer.

    `status` is HTTP's, None where no answer came. `detail` is the API's own word where there is
    one. `retry_after` is in seconds, as the API asked for.
    """

    advice: ClassVar[str] = ""

    def __init__(
        self,
        method: str,
        path: str,
        detail: str,
        *,
        status: int | None = None,
        instance_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(method, path, detail)
        self.method = method
        self.path = path
        self.detail = detail
        self.status = status
        self.instance_id = instance_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        answer = f"answered {self.status}: " if self.status else "got no answer: "
        happened = f"{self.method} {self.path} {answer}{self.detail}".rstrip(".")
        return f"{happened}. {self.advice}".rstrip()


class AuthenticationError(APIError):
    """401 or 403: the key is wrong, or lacks the ADMIN scope."""

    def __init__(
        self,
        *args: str,
        needed_key: str = "a key with the ADMIN scope",
        key_source: str = "",
        **kwargs: object,
    ) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.needed_key = needed_key
        self.key_source = key_source

    @property
    def advice(self) -> str:  # type: ignore[override]
        return (
            f"Make {self.needed_key} on the keys page of the fal dashboard and set it as "
            "FAL_ADMIN_API_KEY or with `pulumi config set --secret fal:apiKey`."
        )

    def __str__(self) -> str:
        return f"{super().__str__()} The key that was refused came from {self.key_source}."


class NotFoundError(APIError):
    """404: the API doesn't know the machine."""


class ConflictError(APIError):
    """409: the machine can't be changed at the moment."""


class InProgressError(APIError):
    """409 to a create with an idempotency key: the API still serves an earlier one with it."""


class InvalidRequestError(APIError):
    """Any other 4xx: the API refuses the request as it is; `detail` is its reason."""


class RateLimitedError(APIError):
    """429: too many requests; nothing was done."""

    advice = "Wait a little and run the command again, or lower --parallel."


class ServerError(APIError):
    """5xx: the API or a gateway before it failed; whether the request was taken is not known."""


class UnusableAnswerError(APIError):
    """An answer that isn't the API's: HTML, broken JSON, another shape, a redirect."""

    advice = "Check the endpoint (FAL_COMPUTE_ENDPOINT or fal:endpoint)."


class UnreachableError(APIError):
    """No answer. `sent` is False where the request surely never left this machine."""

    def __init__(self, *args: str, sent: bool, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.sent = sent

    @property
    def advice(self) -> str:  # type: ignore[override]
        if self.sent:
            return ""
        return "Check the network and the endpoint (FAL_COMPUTE_ENDPOINT or fal:endpoint)."


class LifecycleError(FalError):
    """A machine did not do what was asked of it; `instance_id` says which."""

    def __init__(self, instance_id: str, message: str) -> None:
        super().__init__(message)
        self.instance_id = instance_id


class NotReadyError(LifecycleError):
    """The wait for ready ended before the machine was; the machine runs, and bills."""


class VanishedError(LifecycleError):
    """A machine that was awaited is gone: not listed, and 404 when asked for, twice.

    `was_listed`: whether the API had ever shown it; it may still be about to otherwise.
    """

    def __init__(self, instance_id: str, message: str, *, was_listed: bool) -> None:
        super().__init__(instance_id, message)
        self.was_listed = was_listed


class ElsewhereError(LifecycleError):
    """A machine that this key does not see belongs to another account, for all that is known."""


class StillThereError(LifecycleError):
    """The wait for a machine's end was over before the machine was gone."""


class JournalError(FalError):
    """The record of creates under way can't be used, and a machine may hang on it."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(
            f"The record of creates under way, {path}, {problem}. It tracks machines that are "
            "not in state yet, so none is made without it. Fix it, then run the command "
            "again; `pulumi-fal pending ls` shows what can be read."
        )
        self.path = str(path)
        self.problem = problem


class StackError(FalError):
    """A stack, or the list of stacks, can't be had from the `pulumi` command."""


class UnresolvedCreateError(FalError):
    """An earlier or this create may have made a machine that state doesn't have.

    `candidates` are the ids of machines that it may be; none of them is touched.
    """

    def __init__(self, happened: str, what_to_do: str, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(f"{happened} {what_to_do}")
        self.happened = happened
        self.what_to_do = what_to_do
        self.candidates = candidates
