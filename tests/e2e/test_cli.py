"""The command line with the real `pulumi` and OpenSSH; tests/unit has its output."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..docs import blocks
from ..fakes import EIGHT, ONE
from .harness import PULUMI, SECONDS, SSH_KEY, Stack, machine, pulumi_fal, wait_until
from .recovery import PATIENCE, kill_while_waiting, pending, printed
from .sshd import Sshd

CI = Path(__file__).parents[2] / "docs" / "ci.md"


@pytest.mark.chaos(
    "unit/test_cli_whose.py::test_all_commands_agree", "unit/test_cli_whose.py::test_expired"
)
def test_whose(stack: Stack, emulator: EmulatorServer) -> None:
    """Three stacks, a create that was killed, a lost answer, and a machine that nobody has.

    `ls` shows whose each is, the jobs of the docs end the forgotten one alone, and before it the
    one that is older than its max_age; what the commands say comes true.
    """
    stack.env |= PATIENCE
    stack.write(machine(max_age="1h"), machine("ended", max_age="1s"))
    stack.up()
    ended = stack.ids()["ended"]
    end_expired = ("delete", "--expired", "--yes")
    wait_until(lambda: f"Machine {ended} is gone.\n" in pulumi_fal(stack, *end_expired))
    assert "No machine is older" in pulumi_fal(stack, *end_expired)
    stack.write(machine())
    stack.up()
    (held,) = stack.state_ids()
    prod, test = (Stack(stack.folder, stack.env, name=name) for name in ("prod", "test"))
    prod.init()
    killed = kill_while_waiting(prod, emulator)
    forgotten = emulator.state.create(NewInstance(ONE, SSH_KEY)).id

    def owners() -> dict[str, list[str]]:
        shown = pulumi_fal(stack, "ls").splitlines()[1:]
        return {row.split()[0]: re.split("  +", row)[-2:] for row in shown}

    dev_name, prod_name, test_name = (
        f"organization/test/{name}" for name in ("dev", "prod", "test")
    )
    assert owners() == {
        held: [dev_name, "machine"],
        killed: [f"pending: {prod_name}", "machine"],
        forgotten: ["forgotten", "-"],
    }
    for id_ in (held, killed):
        pulumi_fal(stack, "delete", forgotten, id_, "--yes", code=1)
    assert emulator.state.alive() == {held, killed, forgotten}
    run_nightly_job(stack)
    assert emulator.state.alive() == {held, killed}
    report = json.loads(pulumi_fal(stack, "audit", "--json"))
    whose = {row["id"]: row["whose"] for row in report["machines"]}
    assert whose == {held: "stack", killed: "pending"}

    prod.cancel()
    prod.run("stack", "rm", "--yes", "--force")
    assert f"abandoned: made for {prod.urn()}" in pulumi_fal(stack, "audit", code=1)
    shown = pending(stack, "ls")
    assert f"{prod_name}, which no longer exists" in shown
    (command,) = printed(shown, "pulumi-fal delete")
    pulumi_fal(stack, "delete", *command, "--yes")
    assert emulator.state.alive() == {held}

    test.init()
    emulator.faults.add("create", "reset_after")
    test.up(fails=True)
    (lost,) = emulator.state.alive() - {held}
    assert owners()[lost] == [f"unknown: {test_name}", "perhaps machine"]
    text = stack.state_file.read_text()
    stack.state_file.write_text(text[:-100])
    assert "Unreadable: the list of stacks: " in pulumi_fal(stack, "audit", code=2)
    refused = pulumi_fal(stack, "pending", "adopt", test.urn(), lost, code=1, stderr=True)
    assert "these could not be read, and may have the machine:" in refused
    stack.state_file.write_text(text)
    pending(stack, "adopt", test.urn(), lost)
    test.up()
    assert test.state_ids() == {lost}


def test_ssh_by_name(stack: Stack, emulator: EmulatorServer, sshd: Sshd) -> None:
    """A later machine with the same address and another host key is no alarm.

    ssh itself reads the file of `ssh-config --write`.
    """
    stack.env["PATH"] = os.pathsep.join([str(sshd.path), stack.env["PATH"]])
    stack.env["FAL_COMPUTE_SSH_ADDRESS"] = f"127.0.0.1:{sshd.port}"
    client = sshd.path / "ssh"
    client.write_text(re.sub(r"-o UserKnownHostsFile=\S+ ", "", client.read_text()))
    sshd.start()
    stack.up()
    (first,) = stack.state_ids()
    assert pulumi_fal(stack, "ssh", "machine", "--", "echo", "'a  b'") == "a  b\n"
    pulumi_fal(stack, "ssh", "machine", "exit 3", code=3)

    sshd.end()
    key = sshd.path.parent / "host_key"
    key.unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    sshd.start()
    pulumi_fal(stack, "ssh", first, "true", code=255)  # of the same machine, it is one
    stack.destroy()
    stack.up()
    assert pulumi_fal(stack, "ssh", f"{stack.name}/machine", "echo", "new") == "new\n"
    shown = pulumi_fal(stack, "ssh-config", "--stack", stack.name, "--write")
    config = stack.folder / "config"
    config.write_text(next(row for row in shown.splitlines() if "Include" in row))
    read = subprocess.check_output(["ssh", "-G", "-F", config, "machine"], text=True)
    assert f"hostkeyalias {stack.state_ids().pop()}\n" in read


def run_nightly_job(stack: Stack) -> None:
    """Run the step of the docs' job that ends forgotten machines, without its pause."""
    blocks = re.findall(r"```yaml\n(.*?)```", CI.read_text(), re.DOTALL)
    jobs = [job for block in blocks for job in yaml.safe_load(block).get("jobs", {}).items()]
    ((_, job),) = [item for item in jobs if item[0] == "end-forgotten"]
    (script,) = [step["run"] for step in job["steps"] if "env" in step]
    assert len(re.findall(r"^sleep \d+$", script, re.MULTILINE)) == 1
    path = f"{Path(sys.executable).parent}:{stack.env['PATH']}"
    subprocess.run(
        ["bash", "-e", "-c", re.sub(r"(?m)^sleep .*", "", script)],
        cwd=stack.project,
        env={**stack.env, "PATH": path},
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=SECONDS,
    )


# `pulumi do`

PAGE = [block for block in blocks("sh", "text") if block.page.name == "pulumi-do.md"]
COMMANDS = [line for block in PAGE if block.language == "sh" for line in block.text.splitlines()]
PLACEHOLDER = "ssh-ed25519 AAAA... me@laptop"
PLUGIN = tuple(COMMANDS[0].split()[1:5])


def test_do(stack: Stack, emulator: EmulatorServer) -> None:
    """Each command does what the page says, for machines of whoever made them.

    Without a stack, nothing is changed.
    """
    folder = stack.project = stack.folder / "empty"
    (folder / "venv").mkdir(parents=True)
    (folder / "venv" / "bin").symlink_to(PULUMI.parent)
    (text,) = [block.text for block in PAGE if PLACEHOLDER in block.text]
    (folder / "machine.pcl").write_text(text.replace(PLACEHOLDER, SSH_KEY))
    one, eight = (emulator.state.create(NewInstance(kind, SSH_KEY)).id for kind in (ONE, EIGHT))

    def do(*words: str) -> str:
        """Run the first line of the page that has all of these words, with the machine's id."""
        line = next(line for line in COMMANDS if set(words) <= set(line.split()))
        args = [one if word == "ID" else word for word in shlex.split(line)]
        return stack.run(*args[1:]).output

    assert {machine["id"] for machine in json.loads(do("list", "--status"))} == {one}
    assert '"status": "ready"' in do("fal:getInstance")
    create = ("create", "--input", "pcl", "--input-file", "machine.pcl", "--stateless", "--yes")
    assert "No machine was created" in stack.run(*PLUGIN, *create, fails=True).output
    assert emulator.state.alive() == {one, eight}
