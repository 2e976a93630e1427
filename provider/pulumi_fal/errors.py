"""The exceptions that this package raises on purpose.

A message says what happened, to which machine, and what to do now. In a message of more than two
sentences, a line with a command has no other sentence. No message or attribute contains request
headers, because they include the API key.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

KEYS_PAGE = "https://fal.ai/dashboard/keys"
"""Where people make a key."""
SET_KEY = (
    "as FAL_ADMIN_API_KEY, or with `pulumi config set --secret fal:apiKey`; then `pulumi destroy` "
    "and `pulumi refresh` need `--run-program`"
)
"""How a key is set that no provider in the program declares: "set it", and then this. Commands that
run no program, such as destroy and refresh, use the config of the last `up`."""

_NAME = "pulumi-fal"


def printable(text: str) -> str:
    """Return the text with a space in place of each character that a terminal acts on."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def runnable(text: str) -> str:
    """Return a message with `pulumi-fal` as it can be run here: by its path if not on PATH."""
    return re.sub(rf"(?:(?<=`)|(?<=\s\s)){_NAME}(?=\s[a-z])", lambda _: _command(), text)


@functools.cache
def _command() -> str:
    own = str(Path(sys.executable).parent)
    folders = os.environ.get("PATH", "").split(os.pathsep)
    if folders[0] == own and any(name.startswith("PULUMI_RUNTIME_") for name in os.environ):
        del folders[0]  # Pulumi has put it there for the plugin, and no person has it
    is_on_path = shutil.which(_NAME, path=os.pathsep.join(folders))
    beside = shutil.which(_NAME, path=own)
    return shlex.quote(beside) if beside and not is_on_path else _NAME


class FalError(Exception):
    """The base class of all exceptions in this module."""

    is_awaited = False
    """Whether this ends a create that has waited for capacity, and may succeed at another time."""


class ConfigurationError(FalError):
    """The key, the endpoint or another setting is missing or unusable. Nothing was sent."""


class Interrupted(FalError):
    """Ctrl-C or `pulumi cancel` ended a wait."""

    def __init__(self, message: str = "interrupted") -> None:
        super().__init__(message)


class APIError(FalError):
    """A call to the API failed or got an unusable answer.

    `status` is the HTTP status, or None if there was no answer. `detail` is the API's own message
    if it sent one. `retry_after` is the delay in seconds that the API asked for, if any. `has_key`
    says whether the request was a create with an idempotency key. `advice` is what to do now.
    """

    advice = ""

    def __init__(
        self,
        method: str,
        path: str,
        detail: str,
        *,
        status: int | None = None,
        instance_id: str | None = None,
        retry_after: float | None = None,
        has_key: bool = False,
        advice: str | None = None,
    ) -> None:
        super().__init__(method, path, detail)
        self.method = method
        self.path = path
        self.detail = detail
        self.status = status
        self.instance_id = instance_id
        self.retry_after = retry_after
        self.has_key = has_key
        self.advice = self.advice if advice is None else advice

    @property
    def happened(self) -> str:
        """What was requested and what came back, without advice and without a full stop."""
        answer = f"answered {self.status}: " if self.status else "got no answer: "
        return f"{self.method} {self.path} {answer}{self.detail}".rstrip(".")

    def __str__(self) -> str:
        return f"{self.happened}. {self.advice}".rstrip()


class AuthenticationError(APIError):
    """401 or 403: the key is invalid or lacks the ADMIN scope."""


class NotFoundError(APIError):
    """404: the API does not know the machine."""


class ConflictError(APIError):
    """409: the API rejected the request because of the current state, mostly the machine's."""


class InvalidRequestError(APIError):
    """Any other 4xx: the API rejected the request. `detail` is its reason."""


class RateLimitedError(APIError):
    """429: too many requests. The API did not carry out this one."""

    advice = "Wait a little and run the command again, or lower --parallel."


class ServerError(APIError):
    """5xx: the API or its gateway failed. The request may or may not have been carried out."""


class UnusableAnswerError(APIError):
    """The answer is not in the API's format: HTML, broken JSON, unexpected fields, a redirect."""

    advice = "Check the endpoint (FAL_COMPUTE_ENDPOINT or fal:endpoint)."


class UnreachableError(APIError):
    """There was no answer. `sent` is False if the request certainly never left this computer."""

    def __init__(self, *args: str, sent: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent = sent
        if not sent:
            self.advice = (
                "Check the network and the endpoint (FAL_COMPUTE_ENDPOINT or fal:endpoint)."
            )


class LifecycleError(FalError):
    """An operation on the machine `instance_id` failed."""

    def __init__(self, instance_id: str, message: str) -> None:
        super().__init__(message)
        self.instance_id = instance_id


class UnknownMachineError(LifecycleError):
    """The API does not know a machine that is read by its id."""


class NotReadyError(LifecycleError):
    """The machine was not ready before the timeout. It keeps running and is billed."""


class VanishedError(LifecycleError):
    """A machine that the API had shown is gone, as an operation that waited for it found."""

    def __init__(self, instance_id: str, happened: str) -> None:
        super().__init__(instance_id, f"{happened} Run `pulumi up` again to create a new one.")
        self.happened = happened


class ElsewhereError(LifecycleError):
    """This key does not see the machine, which may belong to another account."""


class StillThereError(LifecycleError):
    """The machine was not confirmed to be gone before the timeout of its delete."""

    def __init__(self, instance_id: str, happened: str) -> None:
        super().__init__(
            instance_id,
            f"{happened}\nIt stays in state, and may still run and bill. Run the command again to "
            "continue.",
        )
        self.happened = happened


class JournalError(FalError):
    """The journal of creates can't be used. It may be the only record of a machine."""

    def __init__(self, path: object, problem: str) -> None:
        is_record = str(path).endswith(".json")  # without the folder, that command shows nothing
        others = "; `pulumi-fal pending ls` shows what can be read" if is_record else ""
        super().__init__(
            f"The journal of creates ({path}) {problem}. It tracks machines that are not in state "
            "yet, so no machine is created without it.\n"
            f"Fix it, then run the command again{others}."
        )
        self.path = str(path)
        self.problem = problem


class StackError(FalError):
    """The `pulumi` command could not return a stack or the list of stacks."""


class CapacityError(FalError):
    """The API refused a create for want of capacity, for as long as the create waited for it."""

    def __init__(self, happened: str, what_to_do: str, *, is_awaited: bool = False) -> None:
        super().__init__(f"{happened}\n{what_to_do}")
        self.happened = happened
        self.what_to_do = what_to_do
        self.is_awaited = is_awaited


class IncompleteClusterError(FalError):
    """One of a cluster's machines was not created.

    The API refused it, as it does if the sector is full, or the cluster's sector is not known.
    """


class NotReplacedError(FalError):
    """The API refused to create the machine that was to replace another one."""


class UnresolvedCreateError(FalError):
    """This create, or an earlier one, may have made a machine that is not in state.

    `candidates` are the ids of the machines that it may be. None of them is touched.
    """

    def __init__(self, happened: str, what_to_do: str, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(f"{happened}\n{what_to_do}")
        self.happened = happened
        self.what_to_do = what_to_do
        self.candidates = candidates
