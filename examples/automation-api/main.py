"""Create a machine, run a command that uses it, and delete the machine.

python main.py KEY.pub COMMAND...   runs the command with MACHINE_IP in its environment
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

PROJECT, STACK = "fal-automation-api", "dev"


def main(key_file: str, *command: str) -> int:
    ssh_key = Path(key_file).read_text(encoding="utf-8")

    def program() -> None:
        machine = ComputeInstance("machine", instance_type="gpu_1x_h100_sxm5", ssh_key=ssh_key)
        pulumi.export("ip", machine.ip)

    stack = automation.create_or_select_stack(STACK, PROJECT, program, opts=in_this_environment())
    try:
        with interrupts_left_to_pulumi():
            up = stack.up(on_output=print)
        ip = up.outputs["ip"].value
        return subprocess.run(command, env={**os.environ, "MACHINE_IP": ip}, check=False).returncode
    finally:
        with interrupts_left_to_pulumi():
            stack.destroy(on_output=print)


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
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # of the key's file, or of the command
        sys.exit(f"{error.filename}: {error.strerror}")
    except automation.CommandError:
        sys.exit("Pulumi failed; see its output above.")
