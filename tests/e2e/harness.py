"""The real `pulumi`, run on a stack of its own: its program, backend, home and environment.

stack.write(machine(sector="sector_1", instance_type="gpu_8x_h100_sxm5"))
stack.up()                      # must succeed
stack.up(fails=True)            # must fail; None: may do either
run = stack.start("up")         # in the background
run.interrupt()                 # as Ctrl-C does
result = run.wait()             # result.exit_code, .output, .seconds

Every run is printed, and so are the emulator's calls, so a test that fails shows what happened.

An engine run costs about a second and a half of CPU time, so a test tells the story of one stack:
each of its commands proves something.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml

from .. import fakes

PULUMI = Path(sys.executable).with_name("pulumi")
TYPE = "pulumi-python:dynamic/fal:ComputeInstance"
SSH_KEY = f"{fakes.ED25519} me@laptop"
OTHER_SSH_KEY = f"{fakes.RSA} me@laptop"
SECONDS = 300.0
"""How long a test waits for anything: a loaded computer must not fail it."""
wait_until = partial(fakes.wait_until, seconds=SECONDS)


def cli_path() -> str:
    """PATH with the CLI and without this checkout's .venv, which `.venv/bin/pulumi` puts first."""
    start = shlex.split(PULUMI.read_text().splitlines()[1])
    own, *folders = start[0].removeprefix("PATH=").removesuffix(":$PATH").split(os.pathsep)
    assert Path(own).samefile(PULUMI.parent), start
    return os.pathsep.join((*folders, os.defpath.lstrip(os.pathsep)))


def _has_official_host() -> bool:
    """Whether `pulumi` runs Python programs with its own language host, which is no script."""
    host = shutil.which("pulumi-language-python", path=cli_path())
    return host is not None and not Path(host).read_bytes().startswith(b"#!")


OFFICIAL_HOST = _has_official_host()
"""Pulumi's own language host differs from that of tools/pulumi-cli in four ways: it interrupts the
program of an `up` that fails, it ends 5 s after a Ctrl-C, it outlives a `pulumi` that is killed,
and it needs a pip in the program's environment."""

# What a run needs beside the command's own flags, so that it asks nothing.
FLAGS = {
    "up": ["--yes", "--skip-preview"],
    "refresh": ["--yes", "--skip-preview"],
    "destroy": ["--yes", "--skip-preview"],
    "import": ["--yes", "--skip-preview", "--generate-code=false"],
    "cancel": ["--yes"],
}


class Code(str):
    """Python in the place of an input's value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def machine(name: str = "machine", *, opts: str = "", **inputs: object) -> str:
    """A program's lines for one machine, whose outputs are the stack's under its name.

    `opts` is Python: the arguments of ResourceOptions. The lines are the same for either host.
    """
    given = {"instance_type": fakes.ONE, "ssh_key": SSH_KEY, **inputs}
    arguments = "".join(f", {key}={value!r}" for key, value in given.items())
    return (
        f"{name} = ComputeInstance({name!r}{arguments}, opts=ResourceOptions({opts}))\n"
        f"outputs = ('id', 'ip', 'status', 'sector', 'instance_type')\n"
        f"pulumi.export({name!r}, {{key: getattr({name}, key) for key in outputs}})\n"
    )


def processes_with(variable: str) -> dict[int, str]:
    """The command lines, by pid, of the processes with this NAME=VALUE in their environment."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() in (process / "environ").read_bytes().split(b"\0"):
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(process.name)] = line.decode(errors="replace").strip()
        except OSError:
            continue  # it ended, or it is somebody else's
    return found


def tracebacks(output: str) -> list[str]:
    """The last line of each traceback that a user should not see.

    Those of a program whose component fails in another process are Pulumi's, and so is that of a
    program that Pulumi's own language host has interrupted.
    """
    pulumis: tuple[str, ...] = (
        "grpc._channel._InactiveRpcError: ",
        "Exception: resource monitor shut down",
    )
    # Since 3.276, the engine's own log is JSON, and has the tracebacks that users don't see.
    lines = [line for line in output.splitlines() if not line.startswith('{"time":')]
    if OFFICIAL_HOST:
        # What the interruption meets, and what Python prints of it where stderr has been closed.
        met = "pulumi.errors.RunError: Resource monitor has terminated"
        pulumis += ("KeyboardInterrupt", met, "object address ")
        # The lines before the diagnostics have the same messages, but may be of several resources.
        lines = (output.partition("Diagnostics:")[2] or output).splitlines()
    return [line for line in _last_lines(lines) if not line.startswith(pulumis)]


def _last_lines(lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        column = line.find("Traceback (most recent call last)")
        if column >= 0:
            below = (line[column:] for line in lines[number + 1 :])
            yield next((line for line in below if line[:1].strip()), "")


@dataclass(frozen=True)
class Result:
    """The end of a run. `output` is stdout and stderr in their order, `seconds` the wall time."""

    command: str
    exit_code: int
    output: str
    seconds: float

    def __str__(self) -> str:
        return f"$ {self.command}\n{self.output}[exit code {self.exit_code}, {self.seconds:.1f} s]"


class Run:
    """A command in the background, in a process group of its own as in a terminal."""

    def __init__(
        self, cli: Path, args: list[str], folder: Path, env: dict[str, str], log: Path
    ) -> None:
        self.command = " ".join([cli.name, *args])
        self.log = log
        self._started = time.monotonic()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [cli, *args],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """Everything that it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def interrupt(self) -> None:
        """Send SIGINT to the process group, as Ctrl-C does. The plugin has a group of its own."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Send SIGKILL to the CLI, and to nothing else."""
        self.process.kill()

    def wait(self, seconds: float = SECONDS) -> Result:
        """Wait for its end, whatever that is. AssertionError after so many seconds."""
        try:
            exit_code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
            raise AssertionError(
                f"$ {self.command}\n{self.output}[still ran after {seconds} s]"
            ) from None
        result = Result(self.command, exit_code, self.output, time.monotonic() - self._started)
        print(result)
        return result


class Stack:
    """A stack in a folder; each command must end as expected.

    `env` is the whole environment of its runs: change it as the test wants.
    """

    type = TYPE
    header = (
        "import pulumi\n"
        "from pulumi import ResourceOptions\n"
        "from pulumi_fal import ComputeCluster, ComputeInstance\n"
    )
    """What its programs begin with."""

    def __init__(self, folder: Path, endpoint: dict[str, str], *, name: str = "dev") -> None:
        self.folder = folder
        self.project = folder
        """The folder that holds Pulumi.yaml."""
        self.name = name
        self.cli = PULUMI
        self.home = folder / "pulumi-home"
        self.runs: list[Run] = []
        self.env = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "PULUMI_HOME": str(self.home),
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "passphrase",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "GOGC": "off",  # a run is over before the memory that this takes counts
            "FAL_COMPUTE_POLL_INTERVAL": "0.1",
            "FAL_COMPUTE_SETTLE": "1",
            "FAL_COMPUTE_ABSENCE": "1",
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
            **endpoint,
        }

    def init(self) -> None:
        """Write the empty state that `pulumi stack init` writes, without running it."""
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / ".pulumi" / "meta.yaml").write_text("version: 1\n")
        stack = f"organization/{self.state_file.parent.name}/{self.name}"
        latest = {"manifest": {"time": "2026-01-01T00:00:00Z", "magic": "", "version": ""}}
        checkpoint = {"stack": stack, "latest": latest}
        self.state_file.write_text(json.dumps({"version": 3, "checkpoint": checkpoint}))

    def set_config(self, **config: str) -> None:
        """Write plain config values of the project, without running `pulumi config set`."""
        file = self.project / f"Pulumi.{self.name}.yaml"
        settings = yaml.safe_load(file.read_text()) if file.exists() else {}
        project = self.state_file.parent.name
        given = {f"{project}:{key}": value for key, value in config.items()}
        settings["config"] = {**settings.get("config", {}), **given}
        file.write_text(yaml.safe_dump(settings))

    def write(self, *parts: str) -> None:
        program = self.header + "".join(parts)
        (self.project / "__main__.py").write_text(program, encoding="utf-8")

    # One method for each command. `fails` says how it must end; None allows both.

    def up(self, *flags: str, fails: bool | None = False) -> Result:
        return self.run("up", *flags, fails=fails)

    def preview(self, *flags: str, fails: bool | None = False) -> Result:
        return self.run("preview", *flags, fails=fails)

    def refresh(self, *flags: str, fails: bool | None = False) -> Result:
        return self.run("refresh", *flags, fails=fails)

    def destroy(self, *flags: str, fails: bool | None = False) -> Result:
        return self.run("destroy", *flags, fails=fails)

    def cancel(self) -> Result:
        return self.run("cancel", self.full_name)

    def run(self, *args: str, fails: bool | None = False) -> Result:
        """Run any command to its end. A traceback is never what a user should see."""
        result = self.start(*args).wait()
        seen = f"`{result.command}`, exit code {result.exit_code}: its output is below"
        if fails is not None:
            assert (result.exit_code != 0) is fails, seen
        assert tracebacks(result.output) == [], seen
        return result

    def start(self, *args: str) -> Run:
        """Start any command in the background."""
        stackless = ("cancel", "do", "install", "new", "package", "plugin")
        names_it = args[0] in stackless or args[:2] in (("stack", "migrate"), ("state", "move"))
        where = [] if names_it else ["--stack", self.full_name]
        flags = [*FLAGS.get(args[0], []), *where, "--non-interactive"]
        log = self.folder / f"run-{len(self.runs)}.log"
        run = Run(self.cli, [*args, *flags], self.project, self.env, log)
        self.runs.append(run)
        return run

    @property
    def full_name(self) -> str:
        """The name by which commands find the stack."""
        return self.name

    # The present state, from the backend's file: this is possible during a run, and costs nothing.

    @property
    def state_file(self) -> Path:
        return self.folder / ".pulumi" / "stacks" / self._project_name() / f"{self.name}.json"

    def state(self) -> dict[str, Any]:
        """The deployment as the backend holds it; {} while there is none."""
        text = self.state_file.read_text()
        latest: dict[str, Any] | None = json.loads(text)["checkpoint"].get("latest")
        return latest or {}

    def resources(self, type_: str = "") -> list[dict[str, Any]]:
        """State's machines, or resources of that type, those marked for deletion included."""
        resources: list[dict[str, Any]] = self.state().get("resources", [])
        return [resource for resource in resources if resource["type"] == (type_ or self.type)]

    def ids(self) -> dict[str, str]:
        """The machines in state by their names, without those that are marked for deletion."""
        return {
            resource["urn"].rpartition("::")[2]: resource["id"]
            for resource in self.resources()
            if resource.get("id") and not resource.get("delete")
        }

    def urn(self, name: str = "machine") -> str:
        """The URN of a machine that the program declares at its top."""
        return f"urn:pulumi:{self.name}::{self._project_name()}::{self.type}::{name}"

    def state_ids(self) -> set[str]:
        """The ids of the machines in state."""
        return {resource["id"] for resource in self.resources() if resource.get("id")}

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs; `machine` says what is in them."""
        stacks = self.resources("pulumi:pulumi:Stack")
        outputs: dict[str, Any] = stacks[0].get("outputs", {}) if stacks else {}
        return outputs

    def processes(self) -> dict[int, str]:
        """The command lines, by pid, of all processes of this stack's runs, including plugins."""
        return processes_with(f"PULUMI_HOME={self.home}")

    def kill_all(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for run in self.runs:
            run.process.wait(SECONDS)

    def files_with(self, secret: str) -> list[str]:
        """The files of this stack with that text, among them state, backups, logs and outputs."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return [
            str(path.relative_to(self.folder))
            for path in files
            if secret.encode() in path.read_bytes()
        ]

    def _project_name(self) -> str:
        lines = (self.project / "Pulumi.yaml").read_text().splitlines()
        return next(line for line in lines if line.startswith("name:")).split()[1]


AnyStack = TypeVar("AnyStack", bound=Stack)


@contextmanager
def fresh(
    kind: type[AnyStack], new_stack: Path, folder: Path, endpoint: dict[str, str]
) -> Iterator[AnyStack]:
    """Yield a stack without resources, in a folder that this makes.

    Afterwards nothing of it runs, and the API key is in none of its files.
    """
    shutil.copytree(new_stack, folder)
    stack = kind(folder, endpoint)
    yield stack
    stack.kill_all()
    assert stack.files_with(fakes.KEY) == []


def pulumi_fal(stack: Stack, *args: str, code: int = 0, stderr: bool = False) -> str:
    """Run it and return its stdout, or all of its output with `stderr`.

    It must end with that exit code and without a traceback.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "pulumi_fal.cli", *args],
        cwd=stack.project,
        env=stack.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    output = ended.stdout + ended.stderr
    print(f"$ pulumi-fal {' '.join(args)}\n{output}[exit code {ended.returncode}]")
    assert ended.returncode == code
    assert "Traceback (most recent call last)" not in output
    for name in ("FAL_ADMIN_API_KEY", "PULUMI_CONFIG_PASSPHRASE"):
        assert stack.env.get(name, "\0") not in output
    return output if stderr else ended.stdout
