"""Copy the folder `work` to all machines of the cluster, and run a command there on all at once.

on_each_node.py COMMAND...   runs it in the copy; $TORCHRUN has the arguments for torchrun
on_each_node.py --stop       stops what runs on the machines, from any terminal

If the command fails on one machine, and after Ctrl-C, it is stopped on all. The exit code is that
of the first machine on which it failed, or else 0.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from typing import Any

WORK = Path(__file__).with_name("work")
SSH = ("-oBatchMode=yes", "-oLogLevel=ERROR", "-oConnectTimeout=30", "-oServerAliveInterval=15")
RUN = f".run-{os.getpid()}"
"""The file on each machine that has the command's process group."""
AGAIN_SECONDS = 5
"""How long after a stop a machine that still runs the command is told again."""
START = """\
mkdir -p ~/work && cd ~/work && tar -xz || exit
echo $$ > ~/{run}
trap 'rm -f ~/{run}' EXIT
export PYTHONUNBUFFERED=1 TORCHRUN={torchrun}
{command}
"""
STOP = 'for run in ~/{run}; do kill -- -"$(cat "$run")"; rm -f "$run"; done 2> /dev/null; true'


def main(*words: str) -> int:
    outputs = stack_outputs()
    nodes = {f"node-{number}": text for number, text in enumerate(outputs["torchrun"])}
    with tempfile.TemporaryDirectory() as folder:
        config, archive = Path(folder, "ssh_config"), Path(folder, "work.tar.gz")
        config.write_text(outputs["sshConfig"])
        ssh = ["ssh", "-F", str(config), *SSH]
        if words == ("--stop",):
            stop(ssh, nodes, ".run-*")
            return 0
        subprocess.run(["tar", "-C", WORK, "-czf", archive, "."], check=True)
        return run(ssh, nodes, archive, " ".join(words))


def stack_outputs() -> dict[str, Any]:
    """Return the outputs of the stack that is selected here."""
    printed = subprocess.run(
        ["pulumi", "stack", "output", "--json"], stdout=subprocess.PIPE, check=True
    )
    outputs: dict[str, Any] = json.loads(printed.stdout)
    if outputs.get("torchrun") is None:
        sys.exit("Not all machines have an ip yet. Run `pulumi up` or `pulumi refresh` first.")
    return outputs


def run(ssh: list[str], nodes: Mapping[str, str], archive: Path, command: str) -> int:
    def run_on_one(name: str) -> int:
        script = START.format(run=RUN, torchrun=shlex.quote(nodes[name]), command=command)
        return run_on(name, [*ssh, name, script], archive)

    with ThreadPoolExecutor(len(nodes)) as pool:
        ends = [pool.submit(run_on_one, name) for name in nodes]
        try:
            failed = next((code for end in as_completed(ends) if (code := end.result())), 0)
        except KeyboardInterrupt:
            failed = 130
        if failed:
            stop(ssh, nodes, RUN)
            while wait(ends, AGAIN_SECONDS).not_done:  # one had not started the command yet
                stop(ssh, nodes, RUN)
    return failed


def run_on(name: str, command: list[str], archive: Path) -> int:
    """Run ssh with the archive as its input, and print its output with the machine's name."""
    with (
        archive.open("rb") as file,
        subprocess.Popen(
            command,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        for line in process.stdout or ():
            print(f"{name}: {line}", end="", flush=True)
    return process.returncode


def stop(ssh: list[str], nodes: Mapping[str, str], run: str) -> None:
    def stop_on(name: str) -> None:
        command = [*ssh, name, STOP.format(run=run)]
        if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode:
            print(f"{name} can't be reached: the command may still run there.", flush=True)

    print("Stopping the command on all machines ...", flush=True)
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(stop_on, nodes))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # a command is missing
        sys.exit(f"{error.filename}: {error.strerror}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # pulumi or tar has said why
