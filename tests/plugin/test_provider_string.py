"""What every stack's state holds of us, for ever."""

from __future__ import annotations

import base64
import pickle
import pickletools
import subprocess
import sys

import pytest
from pulumi.dynamic.dynamic import serialize_provider

import pulumi_fal.provider
from pulumi_fal.provider import ComputeInstanceProvider
from pulumi_fal.tokens import SERIALIZED_PROVIDER

from .harness import PROVIDER

PROGRAM = """
import pulumi, sys, threading
before = set(sys.modules)
import pulumi_fal
heavy = {"requests", "urllib3", "fastapi", "uvicorn", "pydantic", "ssl"} & set(sys.modules) - before
assert not heavy, heavy
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
"""


def test_the_provider_string_is_the_one_in_every_existing_stack() -> None:
    """Another string would show up as a difference."""
    assert SERIALIZED_PROVIDER == PROVIDER


def test_it_names_the_class_and_holds_nothing_else() -> None:
    """The string names a class and holds no attribute, and so never a key."""
    names = [arg for _, arg, _ in pickletools.genops(base64.b64decode(PROVIDER)) if arg]
    assert [name for name in names if isinstance(name, str)] == [
        "pulumi_fal.provider",
        "ComputeInstanceProvider",
    ]
    assert pulumi_fal.provider.ComputeInstanceProvider is ComputeInstanceProvider


def test_it_is_what_the_sdk_makes_of_a_provider_after_any_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The SDK can read what it would have written, and use leaves no trace in it."""
    monkeypatch.setattr(pickle, "DEFAULT_PROTOCOL", 4)  # as up to Python 3.13
    provider = ComputeInstanceProvider()
    provider.check({}, {"instance_type": "gpu_1x_h100_sxm5", "ssh_key": "none"})
    assert serialize_provider(provider) == PROVIDER


def test_importing_the_package_costs_no_http_client_and_starts_no_thread() -> None:
    """A program that declares machines pays for the declaration only."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
