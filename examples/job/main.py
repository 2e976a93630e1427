"""Rent a machine, run a command in a copy of a folder there, and delete the machine.

python main.py KEY.pub FOLDER COMMAND...   also brings back what is then in FOLDER/results
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pulumi
from pulumi import automation

from pulumi_fal import ComputeInstance

PROJECT = "fal-job"
SSH = (
    "ssh",
    "-oBatchMode=yes",  # never ask for a password
    "-oLogLevel=ERROR",
    "-oConnectTimeout=30",
    "-oServerAliveInterval=15",
    # Later machines may get the same address, so host keys are kept by id, in a file of their own.
    "-oUserKnownHostsFile=~/.ssh/known_hosts.fal",
    "-oStrictHostKeyChecking=accept-new",
)


def main(key_file: str, folder: str, *command: str) -> int:
    ssh_key = Path(key_file).read_text(encoding="utf-8")
    work = Path(folder).resolve(strict=True)

    def program() -> None:
        machine = ComputeInstance(
            "machine",
            instance_type="gpu_1x_h100_sxm5",
            ssh_key=ssh_key,
            wait_for_ssh=True,
            max_age="12h",  # if this computer fails, `pulumi-fal delete --expired` deletes it
        )
        pulumi.export("id", machine.id)
        pulumi.export("ip", machine.ip)

    stack = automation.create_or_select_stack(
        work.name, PROJECT, program, opts=in_this_environment()
    )
    try:
        with interrupts_left_to_pulumi():
            outputs = stack.up(on_output=print).outputs
        log_in = ["-i", key_file.removesuffix(".pub"), f"-oHostKeyAlias={outputs['id'].value}"]
        return run([*SSH, *log_in, f"ubuntu@{outputs['ip'].value}"], work, " ".join(command))
    finally:
        delete(stack)


def run(ssh: list[str], work: Path, command: str) -> int:
    """Run the command in a copy of the folder, and bring its results back whatever happens."""
    pack = ["tar", "-C", str(work), "--exclude=./results", "-cz", "."]
    pipe(pack, [*ssh, "mkdir -p job/results && tar -C job -xz"])
    try:
        print(f"$ {command}", flush=True)
        return subprocess.run(
            [*ssh, f"cd job || exit\n{command}"], stdin=subprocess.DEVNULL, check=False
        ).returncode
    finally:
        print(f"Bringing back {work / 'results'} ...", flush=True)
        pipe([*ssh, "tar -C job -cz results"], ["tar", "-C", str(work), "-xz"])


def pipe(source: list[str], target: list[str]) -> None:
    """Run a command with the output of another one. Raises CalledProcessError if one fails."""
    with subprocess.Popen(source, stdout=subprocess.PIPE) as first:
        subprocess.run(target, stdin=first.stdout, check=True)
    if first.returncode:
        raise subprocess.CalledProcessError(first.returncode, source)


def delete(stack: automation.Stack) -> None:
    try:
        with interrupts_left_to_pulumi():
            stack.destroy(on_output=print)
    except automation.CommandError:
        sys.exit(
            "The machine may still exist, and be billed. To delete it:\n"
            f"  pulumi destroy --cwd {Path(__file__).parent} --stack {stack.name}"
        )


def in_this_environment() -> automation.LocalWorkspaceOptions:
    """Run the provider, which is a process of its own, with this environment's packages."""
    return automation.LocalWorkspaceOptions(
        project_settings=automation.ProjectSettings(
            PROJECT, automation.ProjectRuntimeInfo("python", {"virtualenv": sys.prefix})
        )
    )


@contextmanager
def interrupts_left_to_pulumi() -> Iterator[None]:
    """Ignore Ctrl-C here: `pulumi` gets it too and shuts down cleanly.

    If this script exited earlier, the stack would stay locked, and `destroy` would not know of the
    machine.
    """
    before = signal.signal(signal.SIGINT, lambda *_: print("Pulumi is stopping ..."))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    # A job in CI is cancelled with SIGTERM: it is Ctrl-C for this script and what it runs.
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGINT))
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # of the key's file, of the folder, or of a command that is missing
        sys.exit(f"{error.filename}: {error.strerror}")
    except automation.CommandError:
        sys.exit("Pulumi failed; see its output above.")
    except subprocess.CalledProcessError as error:
        sys.exit(f"Files could not be copied: {error.cmd[0]} ended with {error.returncode}.")
