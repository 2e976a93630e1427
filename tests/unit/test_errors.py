"""What a failure says to a person, and what it holds for a program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pulumi_fal import errors
from pulumi_fal.errors import APIError, AuthenticationError, FalError, UnreachableError

PATH = "/compute/instance/i-1"


KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_family(kind: type) -> None:
    """`except FalError` catches whatever this package raises on purpose."""
    assert issubclass(kind, FalError)


def test_attributes() -> None:
    """A program finds call, answer and machine in attributes, and need not read messages."""
    error = APIError("GET", PATH, "not here", status=404, instance_id="i-1", retry_after=3.0)
    assert (error.method, error.path, error.detail) == ("GET", PATH, "not here")
    assert (error.status, error.instance_id, error.retry_after) == (404, "i-1", 3.0)
    error = APIError("GET", PATH, "timed out")
    assert (error.status, error.instance_id, error.retry_after) == (None, None, None)
    for kind in (errors.NotReadyError, errors.ElsewhereError, errors.StillThereError):
        assert kind("i-1", "Machine i-1 did not do it.").instance_id == "i-1"


CHECK = "Check the network and the endpoint"
MESSAGES = {
    "an answer": (
        errors.ConflictError("DELETE", PATH, "still starting", status=409),
        f"DELETE {PATH} answered 409: still starting.",
    ),
    "no answer": (
        UnreachableError("GET", PATH, "timed out", sent=True),
        f"GET {PATH} got no answer: timed out.",
    ),
    "not sent": (UnreachableError("GET", PATH, "connection refused", sent=False), CHECK),
    "a page": (
        errors.UnusableAnswerError("GET", PATH, "not JSON", status=200),
        "Check the endpoint (FAL_COMPUTE_ENDPOINT or fal:endpoint).",
    ),
    "too many": (errors.RateLimitedError("POST", PATH, "slow down", status=429), "--parallel"),
    "stopped": (errors.Interrupted(), "interrupted"),
    "of a machine": (errors.NotReadyError("i-1", "Machine i-1 did not."), "Machine i-1 did not."),
}


@pytest.mark.parametrize("error, says", MESSAGES.values(), ids=MESSAGES)
def test_messages(error: Exception, says: str) -> None:
    """It has the call, the status and the API's words, and what to do."""
    assert says in str(error)
    assert (CHECK in str(error)) is (says == CHECK)


def test_refused_key() -> None:
    """A refused key is named by its source, since there are four."""
    error = AuthenticationError(
        "GET", PATH, "no such key", status=401, key_source="the config value fal:apiKey"
    )
    assert str(error) == (
        f"GET {PATH} answered 401: no such key. The key that was refused came from the config "
        "value fal:apiKey; make a key with the ADMIN scope on the keys page of the fal dashboard "
        "and set it as FAL_ADMIN_API_KEY, or for `pulumi up` with `pulumi config set --secret "
        "fal:apiKey`."
    )
    assert error.key_source == "the config value fal:apiKey"


@pytest.mark.parametrize(
    "path, is_pulumis, by_path",
    [
        ("/usr/bin", False, True),
        ("{own}:/usr/bin", False, False),
        ("{own}:/usr/bin", True, True),
        ("{own}:{own}", True, False),
    ],
    ids=["not on PATH", "on PATH", "only the plugin's", "the person's as well"],
)
def test_runnable(
    monkeypatch: pytest.MonkeyPatch, path: str, is_pulumis: bool, by_path: bool
) -> None:
    """Commands to copy have a path if their name would not do. Other words stay."""
    own = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", path.format(own=own))
    if is_pulumis:
        monkeypatch.setenv("PULUMI_RUNTIME_VIRTUALENV", "venv")
    errors._command.cache_clear()
    said = errors.runnable("pulumi-fal says: run `pulumi-fal ls`, or\n  pulumi-fal audit")
    monkeypatch.undo()
    errors._command.cache_clear()
    errors._command()
    name = f"{own}/pulumi-fal" if by_path else "pulumi-fal"
    assert said == f"pulumi-fal says: run `{name} ls`, or\n  {name} audit"
    assert errors.runnable(said) == said
