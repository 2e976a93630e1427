"""Each example as its user runs it: a copy, with its own Pulumi.yaml and its own environment."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from pulumi_fal.emulator import state
from pulumi_fal.emulator.server import EmulatorServer

from ..docs import blocks
from ..fakes import EIGHT, ONE
from .harness import OFFICIAL_HOST, SSH_KEY, Run, Stack, cli_path, pulumi_fal, wait_until
from .installed import ROOT, UV, build, run_uv
from .native import in_native
from .recovery import nothing_runs
from .sshd import LocalShell, Sshd

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
    assert folders == {*STACKS, "job", "policy", "quickstart", *OTHER_LANGUAGES}
    for name in folders:
        files = {path.name for path in (EXAMPLES / name).iterdir()}
        project = "PulumiPolicy.yaml" if name == "policy" else "Pulumi.yaml"
        assert files >= {project, "README.md", *OTHER_LANGUAGES.get(name, PYTHON)}, name
        assert len((EXAMPLES / name / "README.md").read_text().splitlines()) <= 25, name


def test_cluster(
    example: Example,
    emulator: EmulatorServer,
    shells: Sshd | LocalShell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command runs in a copy of `work` on each machine, and is stopped on all."""
    monkeypatch.setattr(state, "NETWORK", ipaddress.IPv4Address("127.77.0.0"))
    stack = example("cluster")
    stack.env["PULUMI_STACK"] = stack.name
    on_each_node = partial(script, stack, shells, "on_each_node.py")
    assert "Not all machines have an ip yet." in on_each_node("true").wait().output
    stack.up()
    outputs = stack.outputs()
    (sector,) = {machine.sector for machine in emulator.state.existing()}
    assert outputs["sector"] == sector
    assert outputs["hostfile"] == "127.77.0.1 slots=8\n127.77.0.2 slots=8\n"
    printed = ("ssh-config", "--stack", stack.name)
    assert pulumi_fal(stack, *printed) == outputs["sshConfig"]
    assert "placement: cluster\n" in pulumi_fal(stack, *printed, "--format", "dstack")

    (stack.project / "work" / "where.sh").write_text('echo $HOME "$@"')
    ran = on_each_node("sh where.sh $TORCHRUN").wait()
    arguments = "--nnodes=2 --nproc-per-node=8 --node-rank={} --rdzv-endpoint=127.77.0.1:29500"
    assert ran.exit_code == 0
    assert set(ran.output.splitlines()) == {
        f"node-{n}: {shells.home}/127.77.0.{n + 1} {arguments.format(n)}" for n in range(2)
    }
    failed = on_each_node("case $TORCHRUN in *rank=1*) exit 3; esac; echo $$ > ../pid; sleep 600")
    assert failed.wait().exit_code == 3
    pids = [shells.home / f"127.77.0.{n}" / "pid" for n in (1, 2)]
    wait_until(lambda: not runs(pids[0]))
    for end in ("Ctrl-C", "--stop"):
        run = on_each_node("echo $$ > ../pid; echo works; sleep 600")
        wait_until(lambda: stack.runs[-1].output.count("works") == 2)
        assert all(map(runs, pids))
        if end == "Ctrl-C":
            run.interrupt()
        else:
            assert on_each_node(end).wait().exit_code == 0
        ended = run.wait()
        assert ended.exit_code != 0
        assert "Traceback" not in ended.output
        wait_until(lambda: not any(map(runs, pids)))


def script(stack: Stack, shells: Sshd | LocalShell, *args: str) -> Run:
    """Run a script of the example, which finds `pulumi` and the shells on PATH."""
    path = os.pathsep.join([str(shells.path), f"{sys.prefix}/bin", os.defpath])
    log = stack.folder / f"script-{len(stack.runs)}.log"
    env = {**stack.env, "PATH": path}
    stack.runs.append(Run(Path(sys.executable), ["-u", *args], stack.project, env, log))
    return stack.runs[-1]


def runs(pid_file: Path) -> bool:
    return pid_file.exists() and Path("/proc", pid_file.read_text().strip()).exists()


def test_set_up(
    example: Example, emulator: EmulatorServer, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs when SSH answers, again on a replacement, and again until it has succeeded."""
    monkeypatch.setattr(state, "NETWORK", ipaddress.IPv4Address("127.77.0.0"))
    stack = example("set-up")
    stack.env["PATH"] = os.pathsep.join([str(sshd.path), stack.env["PATH"]])
    stack.env["FAL_COMPUTE_SSH_ADDRESS"] = f"127.0.0.1:{sshd.port}"
    script, ran_on = stack.project / "set-up.sh", stack.folder / "ran-on"
    text = f"{script.read_text()}echo $SSH_CONNECTION | cut -d' ' -f3 >> {ran_on}\n"
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
def job(
    stack: Stack, shells: Sshd | LocalShell, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Run]:
    monkeypatch.setattr(state, "NETWORK", ipaddress.IPv4Address("127.77.0.0"))
    stack.project = stack.folder / "job"
    shutil.copytree(EXAMPLES / "job", stack.project, ignore=ignored)
    (stack.project / "key.pub").write_text(shells.public_key)
    return partial(script, stack, shells, "main.py", "key.pub", "work")


def test_job(job: Callable[[str], Run], stack: Stack, emulator: EmulatorServer) -> None:
    """Code goes there and results come back, and the exit code is that of the command."""
    work = stack.project / "work"
    (work / "given").write_text("code")
    (work / "results").mkdir()
    (work / "results" / "earlier").touch()
    assert job("ls results; cat given > results/got; exit 3").wait().exit_code == 3
    assert "earlier" not in stack.runs[-1].output
    assert (work / "results" / "got").read_text() == "code"
    assert emulator.state.creations == 1
    assert emulator.state.alive() == set()
    nothing_runs(stack)


@pytest.mark.chaos("e2e/test_examples.py::test_job")
@pytest.mark.parametrize("moment", ["work", "wait", "cancelled"])
def test_job_interrupted(
    job: Callable[[str], Run], stack: Stack, emulator: EmulatorServer, moment: str
) -> None:
    """Ctrl-C, and SIGTERM of a CI, bring back what there is and delete the machine."""
    emulator.state.provisioning = 3600 if moment == "wait" else 0
    run = job("echo part > results/got; echo works; sleep 600")
    wait_until(lambda: emulator.state.creations if moment == "wait" else "\nworks\n" in run.output)
    if moment == "cancelled":
        run.process.terminate()
    else:
        run.interrupt()
    ended = run.wait()
    assert ended.exit_code != 0
    assert "Traceback" not in ended.output
    assert (stack.project / "work" / "results" / "got").exists() is (moment != "wait")
    assert emulator.state.creations == 1
    assert emulator.state.alive() == set()


@pytest.mark.chaos("unit/test_emulator_cli.py::test_fixture")
@pytest.mark.parametrize("file", ["test_docs.py", "test_stack.py"])
def test_test_your_stack(file: str, example: Example, emulator: EmulatorServer) -> None:
    """The example's test and that of the docs pass with the emulator's fixture.

    For that of the docs nothing is activated: on PATH is no Python that has the package.
    """
    stack = example("test-your-stack")
    (in_docs,) = [block for block in blocks("python") if "fal_emulator" in block.text]
    (stack.project / "test_docs.py").write_text(in_docs.text)
    activated = os.pathsep.join([f"{sys.prefix}/bin", os.defpath])
    command = ["venv/bin/python", "-m", "pytest", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "-p", "no:schemathesis", file],
        cwd=stack.project,
        env={**stack.env, "PATH": cli_path() if file == "test_docs.py" else activated},
        capture_output=True,
        text=True,
        check=False,
    )
    print(result.stdout, result.stderr)
    assert "1 passed" in result.stdout
    assert not any(emulator.state.calls.values())  # the test brought its own emulator
    assert not (stack.project / "Pulumi.test.yaml").exists()


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


@pytest.mark.chaos("e2e/test_examples.py::test_quickstart")
@pytest.mark.skipif(not OFFICIAL_HOST, reason="only Pulumi's own language host installs packages")
@pytest.mark.parametrize("toolchain", ["pip", "uv"])
def test_toolchain(
    package_index: None, bare: Stack, emulator: EmulatorServer, tmp_path: Path, toolchain: str
) -> None:
    """`pulumi install` makes the environment of a project whose requirements name the package."""
    bare.project = shutil.copytree(EXAMPLES / "quickstart", tmp_path / "new", ignore=ignored)
    options = {"toolchain": toolchain, "virtualenv": "venv"}
    project = {"name": "new", "runtime": {"name": "python", "options": options}}
    (bare.project / "Pulumi.yaml").write_text(yaml.safe_dump(project))
    wheel = build("wheel", tmp_path / "dist")
    with (bare.project / "requirements.txt").open("a") as file:
        file.write(f"pulumi-fal @ {wheel.as_uri()}\n")
    (bare.folder / "bin" / "uv").symlink_to(UV)
    own = ("PIP_", "UV_", "SSL_")
    bare.env |= {name: value for name, value in os.environ.items() if name.startswith(own)}
    bare.env["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    bare.run("install")
    bare.init()
    bare.set_config(sshPublicKey=SSH_KEY)
    bare.up()
    (made,) = emulator.state.list()
    assert bare.outputs()["ssh"] == f"ssh ubuntu@{made.ip}"
    bare.destroy()
    assert emulator.state.alive() == set()


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
def test_policy(pack: Path, stack: Stack, emulator: EmulatorServer, tmp_path: Path) -> None:
    """The pack checks the machines of both providers and of a cluster, before any is created."""
    stack.write(POLICED)
    config = tmp_path / "config.json"
    limits = {"few-machines": {"maximum": 2}, "hourly-cost": {"maxHourlyCost": 50}}
    config.write_text(json.dumps(limits))
    stack.env["FAL_COMPUTE_PRICES"] = f"{EIGHT}=20"
    given = ("--policy-pack", str(pack), "--policy-pack-config", str(config))
    said = stack.preview(*given, fails=True).output
    for name in ("python", "cluster-0", "native"):
        assert f"{name} has eight GPUs, which the stack dev may not have." in said
    for name in ("python", "cluster-0"):
        assert f"{name} has eight GPUs: set the resource option `protect`." in said
    assert "native has eight GPUs: set" not in said
    assert "The stack has 5 machines, not 2: cluster-0, native, one, python, small." in said
    assert f"FAL_COMPUTE_PRICES has no price of {ONE}." in said
    assert "The machines cost 60.00 an hour, more than 50.00." in said
    assert emulator.state.creations == 0
