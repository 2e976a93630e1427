#!/usr/bin/env python3
"""Create and delete a machine with the real `pulumi` and an emulator of the API: `make demo`.

Everything happens in a temporary folder, which is always removed at the end. The user's files, and
their FAL_* and PULUMI_* variables, are neither used nor changed. `--api v1` uses fal's v1 API.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from pulumi_fal.emulator.server import EmulatorServer

QUICKSTART = Path(__file__).resolve().parents[1] / "examples" / "quickstart"
PULUMI = Path(sys.executable).with_name("pulumi")
SSH_KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} demo"  # has no private key
PROVISIONING, DELETION = 4.0, 1.0
POLLS = {"FAL_COMPUTE_POLL_INTERVAL": "0.5"}
COMMAND = os.path.relpath(Path(sys.executable).with_name("pulumi-fal"))
NEXT = f"""\
   {COMMAND} emulator
      An emulator that stays. Open its page in a browser, paste its export lines
      into another terminal, and run an example there: examples/fleet has many machines.
   {COMMAND} emulator --fault create=reset_after
      The same with a fault: the first machine is made, but the answer is lost.
      docs/emulator-reference.md lists the others.
   README.md
      The same for real, with a key."""
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_TO_STOP = 10


class Failed(Exception):
    """The reason why the demo failed."""


def main() -> None:
    parser = argparse.ArgumentParser(description="A machine from nothing to gone, on an emulator.")
    parser.add_argument(
        "--api", choices=("legacy", "v1"), default="legacy", help="which of fal's APIs is used"
    )
    api = parser.parse_args().api
    for number in STOPS:
        signal.signal(number, leave)
    say("Create and delete a GPU machine on an emulator of fal Compute: no key and no bill.")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="pulumi-fal-demo-") as folder,
            EmulatorServer(provisioning=PROVISIONING, deletion=DELETION, api=api) as emulator,
        ):
            demonstrate(emulator, Pulumi(Path(folder), {**emulator.env, **POLLS}))
    except Failed as failure:
        sys.exit(f"\nThe demo failed: {failure}")
    except SystemExit:
        say("Stopped. The emulator and the temporary folder are gone.")
        raise
    say("\nDone. What to try next:")
    print(NEXT, flush=True)


def leave(number: int, _: object) -> None:
    """Exit cleanly; further signals are ignored, so that they can't interrupt the clean-up."""
    for stop in STOPS:
        signal.signal(stop, signal.SIG_IGN)
    sys.exit(128 + number)


def demonstrate(emulator: EmulatorServer, pulumi: Pulumi) -> None:
    api = emulator.env["FAL_COMPUTE_API"]
    step(f"The emulator runs on {emulator.url} ({api} API); `pulumi new` copies the quickstart.")
    print(f"   Open {emulator.url}/ in a browser to see its machines while this runs.", flush=True)
    where = [f"--dir={pulumi.project}", f"--runtime-options=virtualenv={sys.prefix}"]
    name = "--name=fal-demo"
    pulumi.read("new", str(QUICKSTART), "--generate-only", "--offline", "--yes", name, *where)
    pulumi.read("stack", "init", "demo")
    pulumi.read("config", "set", "sshPublicKey", SSH_KEY)

    step(f"`pulumi up` creates a machine and waits until it is ready, {PROVISIONING:.0f} s here.")
    pulumi.show("up", "--yes", "--skip-preview")
    outputs = json.loads(pulumi.read("stack", "output", "--json"))
    expect(
        emulator.state.alive() == {outputs["id"]}, "the machine at the API is not the one in state"
    )

    step("The stack's outputs. With a real machine, the command in the last one logs you in.")
    for name in ("id", "ip", "status", "ssh"):
        print(f"   {name:8}{outputs[name]}")

    step("A second `pulumi up` finds nothing to do.")
    pulumi.show("up", "--yes", "--skip-preview", "--expect-no-changes")
    expect(emulator.state.creations == 1, "the second `up` created another machine")

    step("`pulumi destroy` deletes the machine and waits until it is gone.")
    pulumi.show("destroy", "--yes", "--skip-preview")
    alive = emulator.state.alive()
    left = json.loads(pulumi.read("stack", "export"))["deployment"].get("resources", [])
    expect(not alive, f"these machines still exist: {', '.join(alive)}")
    expect(not left, f"state still has {len(left)} resources")

    made, deleted = emulator.state.creations, emulator.state.deletions
    step(
        f"Nothing is left: machines made {made}, deleted {deleted}, alive {len(alive)}; "
        f"resources in state {len(left)}."
    )


class Pulumi:
    """The CLI, with a home, a backend and a project in the folder."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        """`env`: the variables that tell the provider and the engine what to do."""
        self.project = folder / "project"
        self.project.mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FAL_", "PULUMI_"))}
        self._env = {
            **kept,
            **env,
            "HOME": str(folder),
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "demo",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
        }

    def show(self, *args: str) -> None:
        """Run it on this terminal."""
        self._run(args)

    def read(self, *args: str) -> str:
        """Run it quietly and return its stdout."""
        return self._run((*args, "--non-interactive"), subprocess.PIPE)

    def _run(self, args: tuple[str, ...], output: int | None = None) -> str:
        # In its own session: Ctrl-C then reaches only this process, which forwards it once.
        process = subprocess.Popen(
            [PULUMI, *args],
            cwd=self.project,
            env=self._env,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate()
        except BaseException:
            stop(process)
            raise
        if process.returncode:
            raise Failed(
                f"`pulumi {args[0]}` ended with exit code {process.returncode}\n"
                f"{stdout or ''}{stderr or ''}"
            )
        return stdout or ""


def stop(process: subprocess.Popen[str]) -> None:
    """Stop it as Ctrl-C would, and kill it if that takes too long."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Failed(otherwise)


def step(line: str) -> None:
    say(f"\n-> {line}")


def say(line: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"{bold}{line}{plain}", flush=True)


if __name__ == "__main__":
    main()
