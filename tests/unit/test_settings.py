"""Where the key, the endpoint and the patience come from, and what of them is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pulumi_fal.api.settings import (
    API,
    API_KEY,
    ENDPOINT,
    ENDPOINTS,
    NO_KEY,
    OPTIONS,
    PRICES,
    Settings,
    problem,
    resolve,
)
from pulumi_fal.errors import ConfigurationError

from ..docs import ROOT

PAIR = {"FAL_KEY_ID": "id", "FAL_KEY_SECRET": "half"}
ALL = {"FAL_ADMIN_API_KEY": "admin", "FAL_KEY": "plain", **PAIR}
CONFIG = {"fal:apiKey": "configured"}
NOTHING: dict[str, str] = {}


def found(environ: dict[str, str], config: dict[str, str] = NOTHING) -> Settings:
    return resolve({"FAL_KEY": "k", **environ}, config.get)


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        found(environ)
    return str(caught.value)


ENVIRON = "the environment variable "


@pytest.mark.parametrize(
    "environ, config, key, source",
    [
        (ALL, CONFIG, "admin", f"{ENVIRON}FAL_ADMIN_API_KEY"),
        ({**ALL, "FAL_ADMIN_API_KEY": ""}, CONFIG, "configured", "the config value fal:apiKey"),
        ({**ALL, "FAL_ADMIN_API_KEY": " "}, NOTHING, "plain", f"{ENVIRON}FAL_KEY"),
        (PAIR, NOTHING, "id:half", "FAL_KEY_ID and"),
        ({"FAL_KEY": " k-1\n"}, NOTHING, "k-1", f"{ENVIRON}FAL_KEY"),
    ],
)
def test_key(environ: dict[str, str], config: dict[str, str], key: str, source: str) -> None:
    """The first key that isn't blank is taken, without space: others may be for inference only."""
    found = resolve(environ, config.get)
    assert found.api_key == key
    assert found.key_source.startswith(source)
    assert key not in repr(found) + found.account
    accounts = {used.account for used in (found, replace(found, endpoint="https://fal.test"))}
    assert len({*accounts, replace(found, api_key="another").account}) == 3
    assert replace(found, key_source="elsewhere").account == found.account
    # No other place helps where the variable is set, which takes precedence.
    assert ("fal:apiKey" in found.set_key) is ("FAL_ADMIN_API_KEY" not in source)


@pytest.mark.parametrize("environ", [{}, {"FAL_KEY": ""}, {"FAL_KEY": " "}, {"FAL_KEY_ID": "id"}])
def test_no_key(environ: dict[str, str]) -> None:
    """The error says where to set a key and which scope it needs. A preview needs none."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(environ, NOTHING.get)
    assert str(caught.value) == NO_KEY
    set_it = "pulumi config set --secret fal:apiKey"
    for word in ("FAL_ADMIN_API_KEY", set_it, "ADMIN scope", "https://fal.ai/dashboard/keys"):
        assert word in NO_KEY
    assert problem(environ, NOTHING.get) is None


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "nul\0", "schlüssel", "tab\there"])
def test_key_for_no_header(key: str) -> None:
    """A key that no header can hold is not repeated, as the HTTP library would do."""
    said = refusal({"FAL_KEY": key})
    assert "The fal API key in the environment variable FAL_KEY" in said
    assert key not in said
    assert problem({"FAL_KEY": key}, NOTHING.get) == said


@pytest.mark.parametrize(
    "value, taken",
    [
        ("https://fal.test:8443/base", ""),
        ("HTTPS://fal.test", ""),
        ("http://127.8.8.8", ""),
        ("http://localhost:8900", ""),
        ("http://[::1]:8900", ""),
        ("https://fal.test/base/ ", "https://fal.test/base"),
    ],
)
def test_endpoint(value: str, taken: str) -> None:
    """An endpoint uses https, or http on this computer, and comes from environment or config."""
    other = {"fal:endpoint": "https://config.test"}
    assert found({"FAL_COMPUTE_ENDPOINT": value}, other).endpoint == (taken or value)
    assert found({}, {"fal:endpoint": value}).endpoint == (taken or value)
    assert found({}).endpoint == ENDPOINTS["legacy"] == "https://rest.alpha.fal.ai"


HIDDEN = "the value that is set"


@pytest.mark.parametrize(
    "value, shown",
    [
        ("http://fal.test/base", "http://fal.test/base"),
        ("http://127.0.0.1.fal.test", "http://127.0.0.1.fal.test"),
        ("http://127.0.0.1@fal.test", "http://fal.test"),
        ("https://user:s3cr3t@fal.test/base", "https://fal.test"),
        ("https://fal.test?key=s3cr3t", "https://fal.test"),
        ("https://fal.test/#s3cr3t", "https://fal.test"),
        ("https://", HIDDEN),
        ("https://fal.test:s3cr3t", HIDDEN),
        ("https://[s3cr3t", HIDDEN),
        ("https://rest..test", HIDDEN),
        ("ftp://fal.test", "ftp://fal.test"),
        ("s3cr3t", HIDDEN),
        (" ", HIDDEN),
        ("3f1c9a0b-7d52-4be1-9c55-0a4c2b6f8d11:s3cr3t", HIDDEN),
        ("http://key.id:8", HIDDEN),
        ("KEY.ID:8", HIDDEN),
    ],
)
def test_refused_endpoint(value: str, shown: str) -> None:
    """The key would go out in the clear, or to a host that nobody meant. No secret is quoted."""
    said = refusal({"FAL_KEY": "key.id:8", "FAL_COMPUTE_ENDPOINT": value})
    assert f"The endpoint ({shown}) can't be used: it must be https://HOST" in said
    assert "FAL_COMPUTE_ENDPOINT or fal:endpoint" in said
    assert "s3cr3t" not in said
    assert "key.id" not in said.lower()


@pytest.mark.parametrize("name", ["FAL_COMPUTE_API", "FAL_COMPUTE_SETTLE", "FAL_COMPUTE_PRICES"])
def test_quoted_value(name: str) -> None:
    """No version and no number is as long as a key."""
    key = "3f1c9a0b-7d52-4be1-9c55-0a4c2b6f8d11:0f3e2d1c"
    for value, shown in {"soon": "not 'soon'.", key: f"not {HIDDEN}."}.items():
        assert (problem({name: value}, NOTHING.get) or "").endswith(shown)


NUMBERS = [
    ("poll_interval", "FAL_COMPUTE_POLL_INTERVAL", "fal:pollInterval", 2),
    ("retry_budget", "FAL_COMPUTE_RETRY_BUDGET", "fal:retryBudget", 120),
    ("settle_seconds", "FAL_COMPUTE_SETTLE", "fal:settle", 20),
    ("absence_seconds", "FAL_COMPUTE_ABSENCE", "fal:absence", 60),
    ("parallel", "FAL_COMPUTE_PARALLEL", "fal:parallel", 256),
]


@pytest.mark.parametrize("name, variable, key, default", NUMBERS)
def test_number(name: str, variable: str, key: str, default: float) -> None:
    """A number comes from the environment, the config or the default, and is positive."""
    assert getattr(found({variable: "3"}, {key: "4"}), name) == 3
    assert getattr(found({}, {key: "4"}), name) == 4
    assert getattr(found({}), name) == default
    for text in ("0", "nan", "inf", "soon"):
        expected = f"{variable} (or {key}) must be a positive number, not {text!r}."
        assert refusal({variable: text}) == expected


@pytest.mark.parametrize(
    "text, found_or_bad",
    [
        ("", {}),
        ("gpu_1x_h100_sxm5=2.49", {"gpu_1x_h100_sxm5": 2.49}),
        ("gpu_1x_h100_sxm5 = 2.49, new=20,", {"gpu_1x_h100_sxm5": 2.49, "new": 20}),
        *(
            (text, text)
            for text in ("2.49", "=2", "a=", "a=-1", "a=2,49", "a=$2", "a=inf", "a=1e3")
        ),
        ("a=1,a=2", "a=2"),
    ],
)
def test_prices(text: str, found_or_bad: dict[str, float] | str) -> None:
    """The API has no prices, so there is no default, and a mistake in one is no missing price."""
    if isinstance(found_or_bad, dict):
        assert found({"FAL_COMPUTE_PRICES": text}).prices == found_or_bad
        assert found({}, {"fal:prices": text}).prices == found_or_bad
    else:
        said = refusal({"FAL_COMPUTE_PRICES": text})
        assert said.startswith("FAL_COMPUTE_PRICES (or fal:prices) must have one price an hour for")
        assert f"not {found_or_bad.rpartition(',')[2]!r}." in said
        assert problem({"FAL_COMPUTE_PRICES": text}, NOTHING.get) == said


def test_docs() -> None:
    """The key has a table of its own, because it can come from more places."""
    page = (ROOT / "docs" / "installation-configuration.md").read_text(encoding="utf-8")
    defaults = {API: f"`{API.default}`", ENDPOINT: f"`{ENDPOINTS[API.default]}`", PRICES: "none"}
    for option in OPTIONS:
        if option is not API_KEY:
            default = defaults.get(option) or f"{option.default:g}"
            assert f"\n| `{option.variable}` | `{option.key}` | {default}" in page
    assert f"\n| 1 | `{API_KEY.variable}` | |" in page
    assert f"\n| 2 | | `{API_KEY.key}` |" in page
