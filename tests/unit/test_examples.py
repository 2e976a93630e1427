"""What of the examples can be tried without an engine."""

from __future__ import annotations

import runpy
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ..docs import ROOT
from ..fakes import EIGHT, ONE

EXAMPLES = ROOT / "examples"


def test_the_users_test_does_not_use_the_configuration_of_a_folder_above() -> None:
    """Inside a clone, pytest would find that of this project, whose plugins a user lacks."""
    command = ["-m", "pytest", "--collect-only", "-p", "no:timeout", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=EXAMPLES / "test-your-stack",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 test collected" in ended.stdout


def test_the_automation_script_names_a_key_file_that_is_missing() -> None:
    """The script says so before it makes a stack, and without a traceback."""
    ended = subprocess.run(
        [sys.executable, "main.py", "missing.pub", "true"],
        cwd=EXAMPLES / "automation-api",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, "missing.pub: No such file or directory\n")


# The policy pack, whose package the lock can't have; e2e/test_policy.py runs it with the engine.

DYNAMIC, NATIVE = "pulumi-python:dynamic/fal:ComputeInstance", "fal:index:ComputeInstance"


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the pack defines. Its policies are not served."""
    policy = ModuleType("pulumi_policy")
    policy.__getattr__ = lambda name: lambda **fields: fields  # type: ignore[method-assign]
    policy.EnforcementLevel = SimpleNamespace(MANDATORY="mandatory")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pulumi_policy", policy)
    return runpy.run_path(str(EXAMPLES / "policy" / "__main__.py"))


def resource(
    type_: str, kind: str, stack: str = "dev", *, protect: bool = False, **config: Any
) -> SimpleNamespace:
    """What the engine tells a policy of a machine."""
    name = "instance_type" if type_ == DYNAMIC else "instanceType"
    return SimpleNamespace(
        resource_type=type_,
        name="box",
        urn=f"urn:pulumi:{stack}::proj::{type_}::box",
        props={name: kind},
        opts=SimpleNamespace(protect=protect),
        get_config=lambda: config,
    )


def violations(check: Any, args: SimpleNamespace) -> list[str]:
    said: list[str] = []
    check(args, said.append)
    return said


@pytest.mark.parametrize("type_", [DYNAMIC, NATIVE])
def test_the_policy_pack_refuses_8x_in_the_configured_stacks(
    pack: dict[str, Any], type_: str
) -> None:
    """By default that is the stack dev."""
    check = pack["refuse_8x_in_dev"]
    assert len(violations(check, resource(type_, EIGHT))) == 1
    assert violations(check, resource(type_, ONE)) == []
    assert violations(check, resource(type_, EIGHT, "production")) == []
    assert violations(check, resource(type_, EIGHT, stacks=["test"])) == []
    assert len(violations(check, resource(type_, EIGHT, "test", stacks=["test"]))) == 1
    assert violations(check, resource("aws:s3:Bucket", EIGHT)) == []


@pytest.mark.parametrize("type_", [DYNAMIC, NATIVE])
def test_the_policy_pack_requires_protect_on_8x(pack: dict[str, Any], type_: str) -> None:
    check = pack["require_protect_on_8x"]
    assert len(violations(check, resource(type_, EIGHT))) == 1
    assert violations(check, resource(type_, EIGHT, protect=True)) == []
    assert violations(check, resource(type_, ONE)) == []


def test_the_policy_pack_limits_the_machines_of_a_stack(pack: dict[str, Any]) -> None:
    """Other resources, such as the cluster itself, don't count."""
    machines = [resource(type_, ONE) for type_ in (DYNAMIC, NATIVE, NATIVE)]
    others = [resource("fal:index:ComputeCluster", ""), resource("pulumi:pulumi:Stack", "")]

    def stack(**config: Any) -> SimpleNamespace:
        return SimpleNamespace(resources=[*machines, *others], get_config=lambda: config)

    check = pack["limit_machines"]
    assert violations(check, stack()) == []
    assert violations(check, stack(maximum=3.0)) == []
    (said,) = violations(check, stack(maximum=2.0))
    assert said.startswith("The stack has 3 machines, not 2: ")
