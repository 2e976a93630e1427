"""Each example as its user runs it: a copy, with its own Pulumi.yaml and its own environment."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulumi_fal.emulator import state
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT, ONE
from .harness import SSH_KEY, Run, Stack, processes_with, pulumi_fal, wait_until
from .installed import ROOT, run_uv
from .native import in_native
from .recovery import nothing_runs
from .sshd import Sshd

EXAMPLES = ROOT / "examples"
STACKS = ("adopt", "cluster", "fleet", "set-up", "ssh-config", "test-your-stack")
PYTHON = {"requirements.txt"}
TYPESCRIPT = {"index.ts", "package.json", "tsconfig.json"}
OTHER_LANGUAGES: dict[str, set[str]] = {
    "cluster-typescript": TYPESCRIPT,
    "cluster-yaml": set(),
    "go": {"main.go", "program.go", "go.mod"},
    "typescript": TYPESCRIPT,
    "yaml": set(),
}
"""The examples that `make languages` runs, and their files."""

Example = Callable[[str], Stack]


@pytest.fixture
def example(stack: Stack) -> Example:
    """Make the stack that of an example, with an SSH key in its config."""

    def copy(name: str) -> Stack:
        stack.project = stack.folder / name
        shutil.copytree(EXAMPLES / name, stack.project, ignore=ignored)
        # What `python3 -m venv venv` and `pip install -r requirements.txt` make.
        (stack.project / "venv").symlink_to(sys.prefix, target_is_directory=True)
        stack.init()
        stack.set_config(sshPublicKey=SSH_KEY)
        return stack

    return copy


ignored = shutil.ignore_patterns("__pycache__", "venv", "Pulumi.*.yaml", ".pytest_cache")


def test_complete() -> None:
    """An example has what is needed to run it, and a short README."""
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == {*STACKS, "automation-api", "policy", "quickstart", *OTHER_LANGUAGES}
    for name in folders:
        files = {path.name for path in (EXAMPLES / name).iterdir()}
        project = "PulumiPolicy.yaml" if name == "policy" else "Pulumi.yaml"
        assert files >= {project, "README.md", *OTHER_LANGUAGES.get(name, PYTHON)}, name
        assert len((EXAMPLES / name / "README.md").read_text().splitlines()) <= 25, name


def test_cluster(
    example: Example,
    emulator: EmulatorServer,
    sshd: Sshd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The script reaches each machine over ssh by its name, with its own arguments."""
    monkeypatch.setattr(state, "NETWORK", ipaddress.IPv4Address("127.77.0.0"))
    sshd.start()
    stack = example("cluster")
    stack.up()
    outputs = stack.outputs()
    (sector,) = {machine.sector for machine in emulator.state.existing()}
    assert outputs["sector"] == sector
    assert outputs["hostfile"] == "127.77.0.1 slots=8\n127.77.0.2 slots=8\n"
    assert pulumi_fal(stack, "ssh-config", "--stack", stack.name) == outputs["sshConfig"]

    def on_each_node(command: str) -> tuple[int, set[str]]:
        path = os.pathsep.join([str(sshd.path), f"{sys.prefix}/bin", os.defpath])
        ended = subprocess.run(
            [sys.executable, "on_each_node.py", command],
            cwd=stack.project,
            env={**stack.env, "PATH": path, "PULUMI_STACK": stack.name},
            capture_output=True,
            text=True,
            check=False,
        )
        print(ended.stderr)
        return ended.returncode, set(ended.stdout.splitlines())

    # The address that the client connected to is the third word of SSH_CONNECTION.
    common = "torchrun --nnodes=2 --nproc-per-node=8"
    assert on_each_node("echo $SSH_CONNECTION | cut -d' ' -f3; echo torchrun $TORCHRUN") == (
        0,
        {"127.77.0.1", "127.77.0.2"}
        | {f"{common} --node-rank={n} --rdzv-endpoint=127.77.0.1:29500" for n in (0, 1)},
    )
    assert on_each_node("exit 3") == (3, set())


def test_set_up(
    example: Example,
    emulator: EmulatorServer,
    sshd: Sshd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It runs when SSH answers, again on a replacement, and again until it has succeeded."""
    monkeypatch.setattr(state, "NETWORK", ipaddress.IPv4Address("127.77.0.0"))
    stack = example("set-up")
    stack.env["PATH"] = os.pathsep.join([str(sshd.path), stack.env["PATH"]])
    stack.env["FAL_COMPUTE_SSH_ADDRESS"] = f"127.0.0.1:{sshd.port}"
    script, ran_on = stack.project / "set-up.sh", sshd.home / "ran-on"
    text = f"{script.read_text()}echo $SSH_CONNECTION | cut -d' ' -f3 >> ~/{ran_on.name}\n"
    script.write_text(text)
    creating = stack.start("up")
    wait_until(lambda: "waiting for SSH on port 22" in creating.output)
    sshd.start()
    assert creating.wait().exit_code == 0
    assert stack.outputs()["printed"] == [f"{socket.gethostname()}\n"]
    stack.up("--expect-no-changes")
    assert ran_on.read_text().split() == ["127.77.0.1"]

    urn = stack.resources()[0]["urn"]
    script.write_text(text + "echo what went wrong; exit 3\n")
    failed = stack.start("up", "--target-replace", urn, "--target-dependents").wait()
    assert failed.exit_code != 0
    assert "SetUpError: The set-up of machine" in failed.output
    assert "failed with exit code 3. The machine is billed." in failed.output
    assert "what went wrong" in failed.output
    assert ran_on.read_text().split() == ["127.77.0.1", "127.77.0.2"]
    script.write_text(text)
    stack.up()
    assert ran_on.read_text().split() == ["127.77.0.1", *["127.77.0.2"] * 2]
    assert stack.outputs()["ips"] == ["127.77.0.2"]

    stack.set_config(clusterSize="2")
    stack.up()
    assert sorted(ran_on.read_text().split()[3:]) == ["127.77.0.3", "127.77.0.4"]
    stack.destroy()
    assert emulator.state.alive() == set()


@pytest.mark.chaos("e2e/test_examples.py::test_complete")
@pytest.mark.parametrize("name", ["fleet", "ssh-config"])
def test_up(name: str, example: Example, emulator: EmulatorServer) -> None:
    """The examples that are no more than a program."""
    stack = example(name)
    stack.up("--parallel", "16")
    assert stack.state_ids() == emulator.state.alive() != set()


@pytest.fixture
def script(stack: Stack) -> Callable[..., Run]:
    """Start examples/automation-api with a command, as from a terminal."""
    project = stack.folder / "automation-api"
    shutil.copytree(EXAMPLES / "automation-api", project, ignore=ignored)
    (project / "key.pub").write_text(SSH_KEY)
    path = os.pathsep.join([f"{sys.prefix}/bin", os.defpath])

    def start(*command: str) -> Run:
        args = ["-u", "main.py", "key.pub", *command]
        log = stack.folder / "script.log"
        run = Run(Path(sys.executable), args, project, {**stack.env, "PATH": path}, log)
        stack.runs.append(run)
        return run

    return start


@pytest.mark.chaos("unit/test_docs.py::test_python")
def test_automation(script: Callable[..., Run], stack: Stack, emulator: EmulatorServer) -> None:
    """The script rents, works and gives back, and exits with the exit code of the work."""
    ended = script("sh", "-c", "echo the ip is $MACHINE_IP; exit 3").wait()
    assert ended.exit_code == 3
    (made,) = emulator.state.machines.values()
    assert f"the ip is {made.ip}\n" in ended.output
    assert emulator.state.alive() == set()
    nothing_runs(stack)


def test_quickstart(stack: Stack, emulator: EmulatorServer) -> None:
    """The root runs it with nothing activated: Pulumi.yaml names the .venv."""
    # The stack's settings stay out of the root.
    shutil.copy(ROOT / "Pulumi.yaml", stack.folder)
    stack.init()
    stack.set_config(sshPublicKey=SSH_KEY)
    stack.project = ROOT
    stack.up("--config-file", str(stack.folder / "Pulumi.dev.yaml"))
    (made,) = emulator.state.list()
    expected = {"id": made.id, "ip": made.ip, "status": "ready", "ssh": f"ssh ubuntu@{made.ip}"}
    assert stack.outputs() == expected


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy pack with its environment. It needs an older protobuf than the lock has."""
    folder = tmp_path_factory.mktemp("policy") / "policy"
    shutil.copytree(EXAMPLES / "policy", folder, ignore=shutil.ignore_patterns("venv"))
    run_uv("venv", "--quiet", "--python", sys.executable, folder / "venv")
    install = ("pip", "install", "--quiet", "--python", folder / "venv" / "bin" / "python")
    there = run_uv(*install, "-r", folder / "requirements.txt", check=False)
    if there.returncode:
        pytest.skip(f"pulumi-policy can't be installed here: {there.stderr.splitlines()[0]}")
    return folder


POLICED = f"""\
import pulumi_fal
key = {SSH_KEY!r}
pulumi_fal.ComputeInstance("python", instance_type={EIGHT!r}, ssh_key=key)
pulumi_fal.ComputeInstance("small", instance_type={ONE!r}, ssh_key=key)
pulumi_fal.ComputeCluster("cluster", size=1, ssh_key=key)
ComputeInstance("native", instanceType={EIGHT!r}, sshKey=key, opts=ResourceOptions(protect=True))
ComputeInstance("one", instanceType={ONE!r}, sshKey=key)
"""


@in_native
def test_policy(pack: Path, stack: Stack, emulator: EmulatorServer) -> None:
    """The pack checks the machines of both providers and of a cluster before any is created."""
    stack.write(POLICED)
    said = stack.preview("--policy-pack", str(pack), fails=True).output
    for name in ("python", "cluster-0", "native"):
        assert f"{name} has eight GPUs, which the stack dev may not have." in said
    for name in ("python", "cluster-0"):
        assert f"{name} has eight GPUs: set the resource option `protect`." in said
    assert "native has eight GPUs: set" not in said
    assert "The stack has 5 machines, not 4: cluster-0, native, one, python, small." in said
    assert emulator.state.creations == 0


# `make demo`

DEMO = ROOT / "tools" / "demo.py"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Run]:
    """The running demo, in an environment whose settings would lead it astray."""
    for folder in ("home", "temporary"):
        (tmp_path / folder).mkdir()
    env = {
        "PATH": os.defpath,
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
        "FAL_ADMIN_API_KEY": "somebody's",
        "FAL_COMPUTE_ENDPOINT": "https://compute.example",
        "PULUMI_BACKEND_URL": "file:///nowhere",
        "PULUMI_HOME": "/nowhere",
        "PULUMI_STACK": "production",
        **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
    }
    run = Run(Path(sys.executable), [str(DEMO)], Path.cwd(), env, tmp_path / "output")
    yield run
    run.kill()
    run.wait()
    # Nothing is left, however it ended.
    wait_until(lambda: not processes_with(f"TMPDIR={tmp_path / 'temporary'}"))
    assert list((tmp_path / "temporary").iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.chaos("e2e/test_examples.py::test_quickstart")
def test_demo(demo: Run) -> None:
    """It shows a machine from nothing to gone, whatever FAL_* and PULUMI_* variables are set."""
    ended = demo.wait()
    assert ended.exit_code == 0
    output = ended.output
    id_ = re.search(r"^ +id +([0-9a-f-]{36})$", output, re.MULTILINE)
    address = re.search(r"^ +ssh +ssh ubuntu@([\d.]+)$", output, re.MULTILINE)
    assert id_ is not None
    assert address is not None
    assert "2 unchanged" in output
    assert re.search(r"^ +Open http://127\.0\.0\.1:\d+/ in a browser", output, re.MULTILINE)
    assert "machines made 1, deleted 1, alive 0; resources in state 0" in output
