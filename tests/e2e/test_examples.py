"""Each example as its user runs it: a copy, with its own Pulumi.yaml and its own environment."""

from __future__ import annotations

import configparser
import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator import state
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ONE
from .cli import pulumi_fal
from .harness import SECONDS, SSH_KEY, Stack, wait_until
from .sshd import Sshd

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
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


def test_every_example_is_complete_and_tested() -> None:
    """An example has what is needed to run it, a short README, and a test in this file.

    test_policy.py runs the policy pack.
    """
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == {*STACKS, "automation-api", "policy", "quickstart", *OTHER_LANGUAGES}
    for name in folders:
        files = {path.name for path in (EXAMPLES / name).iterdir()}
        project = "PulumiPolicy.yaml" if name == "policy" else "Pulumi.yaml"
        assert files >= {project, "README.md", *OTHER_LANGUAGES.get(name, PYTHON)}, name
        assert len((EXAMPLES / name / "README.md").read_text().splitlines()) <= 25, name


@pytest.mark.chaos("e2e/test_examples.py::test_every_example_is_complete_and_tested")
def test_the_fleet_has_the_size_that_the_config_says(
    example: Example, emulator: EmulatorServer
) -> None:
    """The fleet grows and shrinks, and its other machines stay. A destroy deletes all of them."""
    stack = example("fleet")
    stack.up("--parallel", "16")
    first = stack.outputs()["ips"]
    assert sorted(first) == ["node-0", "node-1", "node-2", "node-3"]
    stack.set_config(size="12")
    emulator.faults.add("create", "hold", 8)
    grows = stack.start("up", "--parallel", "16")
    wait_until(lambda: emulator.faults.held == 8)  # all the new ones at once
    emulator.faults.release()
    assert grows.wait().exit_code == 0
    assert {name: stack.outputs()["ips"][name] for name in first} == first
    stack.set_config(size="2")
    stack.up()
    assert stack.outputs()["ips"] == {name: first[name] for name in ("node-0", "node-1")}
    assert stack.state_ids() == emulator.state.alive()
    assert emulator.state.creations == 12
    stack.destroy()
    assert emulator.state.alive() == set()


def test_a_command_runs_on_each_machine_of_the_cluster(
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


def test_a_script_runs_once_on_each_new_machine(
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
    assert "failed with exit code 3. Run `pulumi up` to try again." in failed.output
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


@pytest.mark.chaos("e2e/test_import.py::test_a_program_reads_machines_that_it_does_not_manage")
def test_an_adopted_machine_stays_as_it_is(example: Example, emulator: EmulatorServer) -> None:
    """The option can be removed once it has done its work, and the machine is protected."""
    emulator.state.provisioning = 600
    made = emulator.state.create(NewInstance(ONE, SSH_KEY))
    stack = example("adopt")
    stack.set_config(machineId=made.id)
    run = stack.start("up")  # it waits until the machine is ready
    wait_until(lambda: "waiting for an ip" in run.output or run.process.poll() is not None)
    emulator.state.advance(600)
    assert "1 imported" in run.wait().output
    assert stack.outputs()["ssh"] == f"ssh ubuntu@{emulator.state.get(made.id).ip}"
    program = stack.project / "__main__.py"
    lines = program.read_text().splitlines(keepends=True)
    program.write_text("".join(line for line in lines if "import_=" not in line))
    stack.run("config", "rm", "machineId")
    stack.up("--expect-no-changes")
    assert "protected" in stack.destroy(fails=True).output
    assert emulator.state.alive() == {made.id}
    assert emulator.state.creations == 1


def test_ssh_and_ansible_understand_what_the_stack_says(
    example: Example, emulator: EmulatorServer
) -> None:
    """ssh itself reads the config; Ansible's inventory is an INI file."""
    stack = example("ssh-config")
    stack.up()
    outputs = stack.outputs()
    file = stack.folder / "ssh_config"
    file.write_text(outputs["sshConfig"])
    parser = configparser.ConfigParser(allow_no_value=True, delimiters=(" ",))
    parser.read_string(outputs["inventory"])
    ips = re.findall(r"HostName (.+)", outputs["sshConfig"])
    assert set(ips) == {machine.ip for machine in emulator.state.machines.values()}
    for name, ip in zip(("node-0", "node-1"), ips, strict=True):
        read = subprocess.run(
            ["ssh", "-G", "-F", file, name], capture_output=True, text=True, check=True
        ).stdout
        assert f"hostname {ip}\n" in read
        assert "user ubuntu\n" in read
        assert parser["fal"][name] == f"ansible_host={ip} ansible_user=ubuntu"


class Script:
    """examples/automation-api, started with a command as from a terminal: one process group."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._project = stack.folder / "automation-api"
        self._log = stack.folder / "script.log"
        shutil.copytree(EXAMPLES / "automation-api", self._project, ignore=ignored)
        (self._project / "key.pub").write_text(SSH_KEY)

    def start(self, *command: str) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "main.py", "key.pub", *command],
                cwd=self._project,
                env={**self._stack.env, "PATH": path},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def interrupt(self) -> None:
        """Send SIGINT to its process group, as Ctrl-C does."""
        os.killpg(self._process.pid, signal.SIGINT)

    def wait(self) -> int:
        """The script's exit code, once the script and all that it started have ended."""
        exit_code = self._process.wait(SECONDS)
        wait_until(lambda: not self._stack.processes())
        return exit_code

    def end(self) -> None:
        print(self.output, self._stack.processes())
        self._process.kill()
        self._process.wait()


@pytest.fixture
def script(stack: Stack) -> Iterator[Script]:
    script = Script(stack)
    yield script
    script.end()


def test_the_automation_script_rents_works_and_gives_back(
    script: Script, emulator: EmulatorServer
) -> None:
    """The script exits with the exit code of the work."""
    script.start("sh", "-c", "echo the ip is $MACHINE_IP; exit 3")
    assert script.wait() == 3
    (made,) = emulator.state.machines.values()
    assert f"the ip is {made.ip}\n" in script.output
    assert emulator.state.alive() == set()


@pytest.mark.chaos("e2e/test_examples.py::test_the_automation_script_rents_works_and_gives_back")
def test_ctrl_c_during_the_work_deletes_the_machine(
    script: Script, emulator: EmulatorServer
) -> None:
    """The script fails without a traceback."""
    script.start("sh", "-c", "echo works; exec sleep 600")
    wait_until(lambda: "works" in script.output)
    script.interrupt()
    assert script.wait() != 0
    assert "Traceback" not in script.output
    assert emulator.state.creations == 1
    assert emulator.state.alive() == set()


@pytest.mark.chaos("unit/test_emulator_cli.py::test_fixture")
def test_the_users_own_test_passes(example: Example, emulator: EmulatorServer) -> None:
    """The example's test runs in the project's folder, with pytest and the emulator's extra."""
    stack = example("test-your-stack")
    result = subprocess.run(
        ["venv/bin/python", "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis"],
        cwd=stack.project,
        env={**stack.env, "PATH": os.pathsep.join([f"{sys.prefix}/bin", os.defpath])},
        capture_output=True,
        text=True,
        check=False,
    )
    print(result.stdout, result.stderr)
    assert "1 passed" in result.stdout
    assert not any(emulator.state.calls.values())  # the test brought its own emulator
    assert not (stack.project / "Pulumi.test.yaml").exists()
