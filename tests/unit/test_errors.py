"""What a failure says to a person, and what it holds for a program."""

from __future__ import annotations

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
def test_every_error_is_one_of_the_family(kind: type) -> None:
    """`except FalError` catches whatever this package raises on purpose."""
    assert issubclass(kind, FalError)


def test_an_api_error_has_the_call_and_the_answer_as_attributes() -> None:
    """A program finds the call and the answer in attributes, and need not read messages."""
    error = APIError("GET", PATH, "not here", status=404, instance_id="i-1", retry_after=3.0)
    assert (error.method, error.path, error.detail) == ("GET", PATH, "not here")
    assert (error.status, error.instance_id, error.retry_after) == (404, "i-1", 3.0)


def test_what_is_not_known_is_none() -> None:
    """Without an answer, the status and the id are None."""
    error = APIError("GET", PATH, "timed out")
    assert (error.status, error.instance_id, error.retry_after) == (None, None, None)


def test_the_message_names_the_call_the_status_and_the_apis_word() -> None:
    """A message has the call, the status and the API's words on one line."""
    error = errors.ConflictError("DELETE", PATH, "still starting", status=409)
    assert str(error) == f"DELETE {PATH} answered 409: still starting."


def test_without_an_answer_the_message_says_so() -> None:
    """A message says that there was no answer, in place of the status None."""
    error = UnreachableError("GET", PATH, "timed out", sent=True)
    assert str(error) == f"GET {PATH} got no answer: timed out."


def test_a_refused_key_is_called_by_its_source_with_the_way_out() -> None:
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


def test_only_a_request_that_was_not_sent_blames_the_endpoint() -> None:
    """Only a request that could not be sent shows that the endpoint may be wrong."""
    unsent = UnreachableError("GET", PATH, "connection refused", sent=False)
    sent = UnreachableError("GET", PATH, "timed out", sent=True)
    assert "Check the network and the endpoint" in str(unsent)
    assert "endpoint" not in str(sent)
    assert (unsent.sent, sent.sent) == (False, True)


def test_a_page_in_place_of_an_answer_blames_the_endpoint() -> None:
    """A page with status 200 mostly comes from some other server."""
    error = errors.UnusableAnswerError("GET", PATH, "not JSON", status=200)
    assert str(error).endswith("Check the endpoint (FAL_COMPUTE_ENDPOINT or fal:endpoint).")


def test_too_many_requests_says_what_to_turn_down() -> None:
    """Too many requests are answered with the engine's option that helps."""
    assert "--parallel" in str(errors.RateLimitedError("POST", PATH, "slow down", status=429))


@pytest.mark.parametrize(
    "kind", [errors.NotReadyError, errors.ElsewhereError, errors.StillThereError]
)
def test_a_lifecycle_error_says_which_machine(kind: type[errors.LifecycleError]) -> None:
    """A program finds the id of the machine in an attribute."""
    error = kind("i-1", "Machine i-1 did not do it.")
    assert error.instance_id == "i-1"
    assert str(error).startswith("Machine i-1 did not do it.")


def test_an_interrupt_reads_as_one() -> None:
    """The engine prints this text after Ctrl-C."""
    assert str(errors.Interrupted()) == "interrupted"
