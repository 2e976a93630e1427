"""examples/policy under the real engine, with machines of both providers and of a cluster."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from ..docs import ROOT
from ..fakes import EIGHT, ONE
from .harness import SSH_KEY
from .installed import run_uv
from .native import NativeStack

PROGRAM = f"""\
import pulumi_fal
key = {SSH_KEY!r}
pulumi_fal.ComputeInstance("python", instance_type={EIGHT!r}, ssh_key=key)
pulumi_fal.ComputeInstance("small", instance_type={ONE!r}, ssh_key=key)
pulumi_fal.ComputeCluster("cluster", size=1, ssh_key=key)
ComputeInstance("native", instanceType={EIGHT!r}, sshKey=key, opts=ResourceOptions(protect=True))
ComputeInstance("one", instanceType={ONE!r}, sshKey=key)
"""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack with its environment. Its package needs an older protobuf than the lock has."""
    folder = tmp_path_factory.mktemp("policy") / "policy"
    shutil.copytree(ROOT / "examples" / "policy", folder, ignore=shutil.ignore_patterns("venv"))
    run_uv("venv", "--quiet", "--python", sys.executable, folder / "venv")
    install = ("pip", "install", "--quiet", "--python", folder / "venv" / "bin" / "python")
    there = run_uv(*install, "-r", folder / "requirements.txt", check=False)
    if there.returncode:
        pytest.skip(f"pulumi-policy can't be installed here: {there.stderr.splitlines()[0]}")
    return folder


def test_the_policy_pack_checks_the_machines_of_both_providers_and_of_a_cluster(
    pack: Path, new_stack: Path, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """A preview stops before anything is created; without one, a limit is checked too late."""
    folder = tmp_path / "stack"
    shutil.copytree(new_stack, folder)
    stack = NativeStack(folder, emulator.env)
    stack.write(PROGRAM)
    said = stack.preview("--policy-pack", str(pack), fails=True).output
    for name in ("python", "cluster-0", "native"):
        assert f"{name} has eight GPUs, which the stack dev may not have." in said
    for name in ("python", "cluster-0"):
        assert f"{name} has eight GPUs: set the resource option `protect`." in said
    assert "native has eight GPUs: set" not in said
    assert "The stack has 5 machines, not 4: cluster-0, native, one, python, small." in said

    config = tmp_path / "config.json"
    shutil.copy(pack / "config.json", config)
    limits = json.loads(config.read_text())
    config.write_text(json.dumps({**limits, "no-8x-in-dev": {"stacks": ["production"]}}))
    given = ("--policy-pack", str(pack), "--policy-pack-config", str(config))
    assert "[advisory]  protect-8x" in stack.preview(*given).output
    assert emulator.state.creations == 0

    limits = {"no-8x-in-dev": "disabled", "protect-8x": "disabled", "few-machines": {"maximum": 2}}
    config.write_text(json.dumps(limits))
    assert "The stack has 5 machines, not 2" in stack.up(*given, fails=True).output
    assert emulator.state.creations == 5
    stack.kill_all()
