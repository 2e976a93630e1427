"""An example with a stack and an emulator of its own, and what each example must do there."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pulumi_fal.emulator.server import EmulatorServer

from .builds import BIN, ROOT
from .commands import Failed, run, say, step

SSH_KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} languages"  # has no private key
COMMANDS = {
    "up": ("up", "--yes", "--skip-preview"),
    "preview": ("preview", "--expect-no-changes"),
    "destroy": ("destroy", "--yes", "--skip-preview"),
}


class Project:
    """A copy of an example, with a stack in a backend of its own, and an emulator."""

    def __init__(self, name: str, folder: Path, emulator: EmulatorServer) -> None:
        self.folder = folder / name
        self.emulator = emulator
        shutil.copytree(
            ROOT / "examples" / name,
            self.folder,
            ignore=shutil.ignore_patterns("venv", "sdks", "node_modules", "bin", "Pulumi.*.yaml"),
        )
        # What `python3 -m venv venv && venv/bin/pip install ../..` makes.
        (self.folder / "venv").symlink_to(sys.prefix, target_is_directory=True)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FAL_")},
            **emulator.env,
            "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)]),
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "languages",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "FAL_COMPUTE_POLL_INTERVAL": "0.1",
        }

    def run(self, *command: str | Path) -> str:
        return run(*command, cwd=self.folder, env=self.env)

    def pulumi(self, *args: str) -> str:
        return self.run(BIN / "pulumi", *args, "--stack", "dev", "--non-interactive")

    def init(self, **config: str) -> None:
        self.pulumi("stack", "init")
        for name, value in config.items():
            secret = ("--secret",) if name.endswith("Key") and name != "sshPublicKey" else ()
            self.pulumi("config", "set", name, value, *secret)

    def live(self, command: Callable[[str], str], machines: int = 1) -> dict[str, str]:
        """Up, nothing to do, destroy; the outputs that it had."""
        with step(f"{self.folder.name}: up, preview and destroy on an emulator"):
            outputs: dict[str, str] = json.loads(command("up"))
            command("preview")
            expect(len(self.emulator.state.alive()), machines)
            expect(self.emulator.state.creations, machines)
            command("destroy")
            expect(len(self.emulator.state.alive()), 0)
        return outputs


def check(project: Project, command: Callable[[str], str]) -> None:
    outputs = project.live(command)
    (machine,) = project.emulator.state.machines.values()
    expect(outputs["id"], machine.id)
    expect(outputs["ssh"], f"ssh ubuntu@{machine.ip}")
    expect(outputs["status"], "ready")


def grow_and_shrink(
    project: Project, command: Callable[[str], object], *, is_secret: bool = False
) -> None:
    """Run the example of a cluster with two machines, three and one, all in the same sector.

    `is_secret` says whether the SSH key is, so that state must not have it.
    """
    state = project.emulator.state
    with step(f"{project.folder.name}: up, preview, grow, shrink and destroy on an emulator"):
        for size in (2, 3, 1):
            project.pulumi("config", "set", "size", str(size))
            command("up")
            command("preview")
            outputs = json.loads(project.pulumi("stack", "output", "--json"))
            expect(set(outputs["ips"]), {machine.ip for machine in state.list()})
            expect({machine.sector for machine in state.list()}, {outputs["sector"]})
            expect([len(outputs[name]) for name in ("ips", "torchrun")], [size, size])
        expect(state.creations, 3)
        expect(SSH_KEY.split()[1] in project.pulumi("stack", "export"), not is_secret)
        command("destroy")
        expect(state.alive(), set())


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise Failed(f"expected {wanted!r}, not {found!r}")


def run_chosen(
    runs: Mapping[str, Callable[[Project], None]], example: Callable[[str], str]
) -> None:
    """Run those that the command line names, or all, and exit with 1 if any fails.

    `example` returns the name of the example that a run needs a copy of.
    """
    chosen = sys.argv[1:] or list(runs)
    unknown = set(chosen) - set(runs)
    if unknown:
        sys.exit(f"languages: known are {', '.join(runs)}, not {', '.join(sorted(unknown))}")
    failures = 0
    for name in chosen:
        with (
            tempfile.TemporaryDirectory(prefix="pulumi-fal-languages-") as folder,
            EmulatorServer(provisioning=0.5, deletion=0.2, api_key=None) as emulator,
        ):
            try:
                runs[name](Project(example(name), Path(folder), emulator))
            except Failed as reason:
                say(f"{name} FAILED: {reason}")
                failures += 1
            else:
                say(f"{name} works")
    sys.exit(1 if failures else 0)
