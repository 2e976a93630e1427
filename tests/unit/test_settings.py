"""Where the key, the endpoint and the patience come from, and what of them is refused."""

from __future__ import annotations

import re

import pytest

from pulumi_fal.api.options import API, API_KEY, ENDPOINT, OPTIONS
from pulumi_fal.api.settings import ENDPOINTS, NO_KEY, Settings, parallel, problem, resolve
from pulumi_fal.errors import ConfigurationError

from ..docs import ROOT

ALL = {
    "FAL_ADMIN_API_KEY": "admin",
    "FAL_KEY": "plain",
    "FAL_KEY_ID": "id",
    "FAL_KEY_SECRET": "half",
}
CONFIG = {"fal:apiKey": "configured"}
NOTHING: dict[str, str] = {}


def endpoint(value: str) -> str:
    return resolve({"FAL_KEY": "k", "FAL_COMPUTE_ENDPOINT": value}, NOTHING.get).endpoint


def numbers(environ: dict[str, str], config: dict[str, str]) -> Settings:
    return resolve({"FAL_KEY": "k", **environ}, config.get)


@pytest.mark.parametrize(
    "unset, key, source",
    [
        ([], "admin", "the environment variable FAL_ADMIN_API_KEY"),
        (["FAL_ADMIN_API_KEY"], "configured", "the config value fal:apiKey"),
        (["FAL_ADMIN_API_KEY", "fal:apiKey"], "plain", "the environment variable FAL_KEY"),
        (
            ["FAL_ADMIN_API_KEY", "fal:apiKey", "FAL_KEY"],
            "id:half",
            "FAL_KEY_ID and FAL_KEY_SECRET",
        ),
    ],
)
def test_the_first_key_of_the_list_is_taken(unset: list[str], key: str, source: str) -> None:
    """A key for inference in somebody's shell must not beat the stack's own."""
    environ = {name: value for name, value in ALL.items() if name not in unset}
    config = {name: value for name, value in CONFIG.items() if name not in unset}
    found = resolve(environ, config.get)
    assert (found.api_key, found.key_source) == (key, source)
    # No other place helps where the variable is set, which takes precedence.
    assert ("fal:apiKey" in found.set_key) is ("FAL_ADMIN_API_KEY" not in source)


def test_a_blank_key_is_no_key() -> None:
    """A key that is empty or only space counts as missing, as CI sets a missing secret."""
    found = resolve({"FAL_ADMIN_API_KEY": "  ", "FAL_KEY": ""}, CONFIG.get)
    assert found.api_key == "configured"


def test_space_around_a_key_is_cut() -> None:
    """A key read from a file ends with a line break."""
    assert resolve({"FAL_KEY": " k-1\n"}, NOTHING.get).api_key == "k-1"


@pytest.mark.parametrize("environ", [{}, {"FAL_KEY": " "}, {"FAL_KEY_ID": "id"}])
def test_no_key_names_both_places_to_set_one(environ: dict[str, str]) -> None:
    """The error without a key names the scope that the key needs, and where to set it."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(environ, NOTHING.get)
    assert str(caught.value) == NO_KEY
    for word in ("FAL_ADMIN_API_KEY", "pulumi config set --secret fal:apiKey", "ADMIN scope"):
        assert word in NO_KEY


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "nul\0", "schlüssel", "tab\there"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_repeated(key: str) -> None:
    """The HTTP library would print it in its own error."""
    with pytest.raises(ConfigurationError) as caught:
        resolve({"FAL_KEY": key}, NOTHING.get)
    assert "The fal API key in the environment variable FAL_KEY" in str(caught.value)
    assert key not in str(caught.value)


def test_the_key_is_not_in_the_repr() -> None:
    """Settings end up in logs and tracebacks."""
    assert "s3cr3t" not in repr(resolve({"FAL_KEY": "s3cr3t"}, NOTHING.get))


def test_an_account_is_told_from_another_without_its_key() -> None:
    """An account's hash on disk tells accounts apart, and doesn't tell the key."""
    one, same, other = (
        resolve({"FAL_KEY": key}, NOTHING.get).account for key in ("k1", "k1", "k2")
    )
    elsewhere = Settings("https://fal.test", "k1", "anywhere").account
    assert one == same
    assert len({one, other, elsewhere}) == 3
    assert "k1" not in one


def test_the_endpoint_is_the_environments_then_the_configs_then_the_legacy_one() -> None:
    """The endpoint comes from the environment, then the config, then the older variable."""
    config = {"fal:endpoint": "https://config.test"}
    both = {"FAL_KEY": "k", "FAL_COMPUTE_ENDPOINT": "https://environ.test"}
    assert resolve(both, config.get).endpoint == "https://environ.test"
    assert resolve({"FAL_KEY": "k"}, config.get).endpoint == "https://config.test"
    assert resolve({"FAL_KEY": "k"}, NOTHING.get).endpoint == ENDPOINTS["legacy"]
    assert ENDPOINTS["legacy"] == "https://rest.alpha.fal.ai"


@pytest.mark.parametrize(
    "value",
    [
        "https://fal.test",
        "https://fal.test:8443/base",
        "HTTPS://fal.test",
        "http://127.0.0.1:8900",
        "http://127.8.8.8",
        "http://localhost:8900",
        "http://[::1]:8900",
    ],
)
def test_https_anywhere_and_http_on_this_machine_are_taken(value: str) -> None:
    """The emulator speaks plain http."""
    assert endpoint(value) == value


def test_a_trailing_slash_is_cut() -> None:
    """The API knows no path with two of them."""
    assert endpoint("https://fal.test/base/ ") == "https://fal.test/base"


@pytest.mark.parametrize(
    "value",
    [
        "http://fal.test",
        "http://localhost.fal.test",
        "http://127.0.0.1.fal.test",
        "http://192.0.2.1",
        "http://127.0.0.1@fal.test",
        "https://user:s3cr3t@fal.test",
        "https://s3cr3t@fal.test",
        "https://fal.test?key=s3cr3t",
        "https://fal.test/#s3cr3t",
        "https://",
        "https://fal.test:s3cr3t",
        "https://[s3cr3t",
        "ftp://fal.test",
        "fal.test",
        "s3cr3t",
        " ",
    ],
)
def test_any_other_endpoint_is_refused_without_its_secrets(value: str) -> None:
    """The key would go out in the clear, or to a host that nobody meant."""
    with pytest.raises(ConfigurationError, match="it must be https://HOST") as caught:
        endpoint(value)
    assert "FAL_COMPUTE_ENDPOINT or fal:endpoint" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "value, shown",
    [
        ("http://fal.test/base", "http://fal.test/base"),
        ("fal.test:8443", "fal.test:8443"),
        ("https://user:pass@fal.test/base", "https://fal.test"),
        ("https://fal.test?key=pass", "https://fal.test"),
        ("pass", "the value that is set"),
        ("3f1c9a0b-7d52-4be1-9c55-0a4c2b6f8d11:0f3e2d1c", "the value that is set"),
    ],
)
def test_a_refused_endpoint_is_quoted_unless_it_may_hold_a_secret(value: str, shown: str) -> None:
    """The value shows which setting it came from, and a key may be set in the wrong place."""
    with pytest.raises(ConfigurationError) as caught:
        endpoint(value)
    assert f"The endpoint ({shown}) can't be used" in str(caught.value)


@pytest.mark.parametrize("value", ["http://key.id:8", "http://fal.test/key.id:8", "KEY.ID:8"])
def test_an_endpoint_with_the_key_in_it_is_not_quoted(value: str) -> None:
    """Even a key that looks like an address is in no message."""
    environ = {"FAL_KEY": "key.id:8", "FAL_COMPUTE_ENDPOINT": value}
    with pytest.raises(ConfigurationError) as caught:
        resolve(environ, NOTHING.get)
    assert "key.id" not in str(caught.value).lower()


@pytest.mark.parametrize("name", ["FAL_COMPUTE_API", "FAL_COMPUTE_SETTLE"])
def test_a_short_value_that_cannot_work_is_quoted_and_a_long_one_may_be_a_key(name: str) -> None:
    """No version and no number is as long as a key."""
    key = "3f1c9a0b-7d52-4be1-9c55-0a4c2b6f8d11:0f3e2d1c"
    for value, shown in {"soon": "not 'soon'.", key: "not the value that is set."}.items():
        said = problem({name: value}, NOTHING.get)
        assert said is not None
        assert said.endswith(shown)


@pytest.mark.parametrize("environ", [{}, {"FAL_KEY": ""}, {"FAL_KEY": " "}])
def test_a_preview_needs_no_key(environ: dict[str, str]) -> None:
    """CI sets a missing secret as an empty variable."""
    assert problem(environ, NOTHING.get) is None
    assert problem({"FAL_KEY": "two words"}, NOTHING.get) is not None


NUMBERS = [
    ("poll_interval", "FAL_COMPUTE_POLL_INTERVAL", "fal:pollInterval", 2),
    ("retry_budget", "FAL_COMPUTE_RETRY_BUDGET", "fal:retryBudget", 120),
    ("settle_seconds", "FAL_COMPUTE_SETTLE", "fal:settle", 20),
    ("absence_seconds", "FAL_COMPUTE_ABSENCE", "fal:absence", 60),
    ("parallel", "FAL_COMPUTE_PARALLEL", "fal:parallel", 256),
]


@pytest.mark.parametrize("name, variable, key, default", NUMBERS)
def test_a_number_is_the_environments_then_the_configs_then_the_default(
    name: str, variable: str, key: str, default: float
) -> None:
    """A number comes from the environment, then the config, then the default."""
    assert getattr(numbers({variable: "3"}, {key: "4"}), name) == 3
    assert getattr(numbers({}, {key: "4"}), name) == 4
    assert getattr(numbers({}, {}), name) == default


@pytest.mark.parametrize("name, variable, key, default", NUMBERS)
@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_what_is_no_positive_number_is_refused(
    name: str, variable: str, key: str, default: float, text: str
) -> None:
    """A poll every 0 s would be a flood."""
    expected = f"{variable} (or {key}) must be a positive number, not {text!r}."
    with pytest.raises(ConfigurationError, match=f"^{re.escape(expected)}$"):
        numbers({variable: text}, {})


def test_parallel_is_at_least_one_and_needs_no_key() -> None:
    """Parallel is read without a key, before the first API call."""
    assert parallel({"FAL_COMPUTE_PARALLEL": "0.5"}, NOTHING.get) == 1
    assert parallel({}, NOTHING.get) == 256


def test_the_api_option_names_every_version_of_the_api() -> None:
    """Generated SDKs show its description."""
    assert all(f"`{api}`" in API.description for api in ENDPOINTS)


def test_the_docs_have_each_option_with_its_names_and_its_default() -> None:
    """The key has a table of its own, because it can come from more places."""
    page = (ROOT / "docs" / "installation-configuration.md").read_text(encoding="utf-8")
    defaults = {API: f"`{API.default}`", ENDPOINT: f"`{ENDPOINTS[API.default]}`"}
    for option in OPTIONS:
        if option is not API_KEY:
            default = defaults.get(option) or f"{option.default:g}"
            assert f"\n| `{option.variable}` | `{option.key}` | {default}" in page
    assert f"\n| 1 | `{API_KEY.variable}` | |" in page
    assert f"\n| 2 | | `{API_KEY.key}` |" in page
