"""The pytest plugin in an environment with nothing but the wheel, as a user has it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from .installed import Environment, block, build

USERS_TEST = block("docs/emulator.md", "python", "from pulumi import automation\n")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """The wheel, its emulator extra, and pytest."""
    return Environment(tmp_path_factory.mktemp("with") / "env", wheel, "emulator", "pytest")


@pytest.fixture(scope="module")
def env_without(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """The wheel without extras, and pytest."""
    return Environment(tmp_path_factory.mktemp("without") / "env", wheel, "", "pytest")


def run(
    env: Environment, folder: Path, test: str, *flags: str, exit_code: int = 0, **variables: str
) -> str:
    (folder / "test_mine.py").write_text(test)
    options = ("-q", "-p", "no:cacheprovider", "-W", "error", *flags)
    return env.run(
        "python", "-m", "pytest", *options, exit_code=exit_code, cwd=folder, env=variables
    )


@pytest.mark.chaos("unit/test_emulator_cli.py::test_fixture")
def test_a_users_test_of_ten_lines_passes(env: Environment, tmp_path: Path) -> None:
    """The test in the docs creates, looks at and destroys a machine with the Automation API.

    Nothing is activated: on PATH is no Python that has the package.
    """
    code = [line for line in USERS_TEST.splitlines() if line and "import " not in line]
    assert len(code) <= 11
    path = env.path.removeprefix(f"{env.bin}{os.pathsep}")
    assert "1 passed" in run(env, tmp_path, USERS_TEST, "-W", "default", PATH=path)


def test_each_test_has_an_emulator_of_its_own_and_its_environment_back(
    env: Environment, tmp_path: Path
) -> None:
    """The fixture sets the provider's variables for short waits and leaves no trace afterwards."""
    test = """
import os, sys, time, urllib.request
import pytest
SEEN = []

def call(method, path, body=None):
    headers = {"Authorization": "Key " + os.environ["FAL_ADMIN_API_KEY"],
               "Content-Type": "application/json"}
    url = os.environ["FAL_COMPUTE_ENDPOINT"] + path
    urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method)).close()

def test_one(fal_emulator):
    SEEN.append(os.environ["FAL_COMPUTE_ENDPOINT"])
    assert SEEN[0] == fal_emulator.url
    assert float(os.environ["FAL_COMPUTE_POLL_INTERVAL"]) <= 0.1
    assert float(os.environ["FAL_COMPUTE_SETTLE"]) <= 1
    assert os.environ["PULUMI_PYTHON_CMD"] == sys.executable
    call("POST", "/compute/instance", b'{"instance_type": "gpu_1x_h100_sxm5", "ssh_key": "k"}')
    time.sleep(0.3)
    assert [machine.status for machine in fal_emulator.state.list()] == ["ready"]

def test_another(fal_emulator, monkeypatch):
    assert fal_emulator.url != SEEN[0]
    assert fal_emulator.state.creations == 0

def test_back_again():
    assert os.environ["FAL_COMPUTE_ENDPOINT"] == "before"
    assert "FAL_ADMIN_API_KEY" not in os.environ
    assert "PULUMI_PYTHON_CMD" not in os.environ

@pytest.fixture
def named(monkeypatch):
    monkeypatch.setenv("PULUMI_PYTHON_CMD", "mine")

def test_a_python_that_is_named_stays(named, fal_emulator):
    assert os.environ["PULUMI_PYTHON_CMD"] == "mine"
"""
    assert "4 passed" in run(env, tmp_path, test, FAL_COMPUTE_ENDPOINT="before")


NOT_LOADED = """
import sys
def test_nothing_is_loaded():
    heavy = ("pulumi", "grpc", "fastapi", "uvicorn", "pydantic", "requests", "click")
    assert [name for name in heavy if name in sys.modules] == []
    ours = sorted(name for name in sys.modules if name.startswith("pulumi_fal"))
    assert ours == ["pulumi_fal", "pulumi_fal._version", "pulumi_fal.emulator",
                    "pulumi_fal.emulator.pytest_plugin"]
"""


def test_whoever_does_not_use_it_does_not_notice_it(
    env: Environment, env_without: Environment, tmp_path: Path
) -> None:
    """pytest loads it in every run of every project, whether the extra is installed or not."""
    for environment in (env, env_without):
        assert "1 passed" in run(environment, tmp_path, NOT_LOADED)


def test_without_the_extra_the_fixture_says_what_to_install(
    env_without: Environment, tmp_path: Path
) -> None:
    """The error is one sentence, and appears only where the fixture is used."""
    test = "def test_a(): pass\ndef test_b(fal_emulator): pass\n"
    output = run(env_without, tmp_path, test, exit_code=1)
    assert "1 passed, 1 error" in output
    assert "fal_emulator needs fastapi: pip install 'CLONE[emulator]'" in output
    assert "Traceback" not in output
    assert "No module named" not in output


def test_in_this_checkout_it_is_left_out() -> None:
    """A plugin that is imported before coverage begins would count as lines that never ran."""
    assert "pulumi_fal.emulator.pytest_plugin" not in sys.modules
