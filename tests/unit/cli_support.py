"""`pulumi-fal` in this process: an emulator, an empty folder and a journal of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pulumi_fal.api import settings
from pulumi_fal.api.models import NewInstance
from pulumi_fal.cli import common
from pulumi_fal.cli.__main__ import main as cli
from pulumi_fal.cli.common import Context
from pulumi_fal.clock import Clock
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.errors import StackError
from pulumi_fal.machines import journal
from pulumi_fal.machines.journal import Entry, Journal, Phase, new_file
from pulumi_fal.stacks import state
from pulumi_fal.stacks.cache import Origin
from pulumi_fal.tokens import TYPE_TOKEN

from ..fakes import ED25519, KEY, ONE

BACKEND, ELSEWHERE = (
    f"file://{'C:' if os.name == 'nt' else ''}/{name}" for name in ("here", "else")
)
"""The backend that `pulumi` uses, and another one."""
DEV, PROD, TEST = (f"organization/train/{name}" for name in ("dev", "prod", "test"))
NOW = 1_700_000_000.0
SSH_KEY = f"{ED25519} me@laptop"
OF_PULUMI_DO = "urn:pulumi:do::::fal:index:ComputeInstance::do-7a3b575a"
"""How earlier versions recorded a create of `pulumi do --stateless`, which no stack has."""
NO_PULUMI = "there is no `pulumi` command on PATH"


def urn(name: str, stack_name: str = "dev", type_: str = TYPE_TOKEN) -> str:
    """The URN of a machine's resource in the project `train`."""
    return f"urn:pulumi:{stack_name}::train::{type_}::{name}"


M = "the machine"
"""Stands for the id of a machine in tables."""


def filled(value: Any, id_: str) -> Any:
    """Return a value of a table with the machine's id filled in."""
    if isinstance(value, dict):
        return {key: filled(one, id_) for key, one in value.items()}
    return {M: id_, (M,): (id_,)}.get(value, value)


class Still(Clock):
    """A clock whose time of day is always NOW."""

    def wall(self) -> float:
        return NOW


@dataclass
class CommandLine:
    """Runs commands. No output ever has the API's key in it, or a traceback."""

    emulator: EmulatorServer
    journal: Journal
    clock: Clock = field(default_factory=Still)
    backends: dict[str, dict[str, dict[str, str] | str]] = field(
        default_factory=lambda: {BACKEND: {DEV: {}, PROD: {}}, ELSEWHERE: {}}
    )
    """What the `pulumi` command finds in a backend: by stack, ids by resource, or why not."""
    providers: dict[str, str] = field(default_factory=dict)
    """The ids of stacks' provider resources, by the stacks' names."""
    seen: dict[str, dict[str, str]] = field(default_factory=dict)
    """What state says of a machine, by its id: outputs `account` and `endpoint`."""
    created: dict[str, str] = field(default_factory=dict)
    """When stacks recorded machines, by their ids, as `pulumi stack export` prints it."""
    max_ages: dict[str, str] = field(default_factory=dict)
    """The input `max_age` of resources, by their names."""
    types: dict[str, str] = field(default_factory=dict)
    """The types of resources that are not Python's dynamic ones, by their names."""
    exported: list[str] = field(default_factory=list)
    """The stacks that were read, in order."""
    meanwhile: Callable[[tuple[str, ...]], object] = lambda args: None
    """Called before the `pulumi` command answers, with what it is asked."""
    pulumi_says: str = ""
    """Why there is no `pulumi` command to ask, if so."""
    stderr: str = ""

    @property
    def stacks(self) -> dict[str, dict[str, str] | str]:
        """What is in the backend that `pulumi` uses."""
        return self.backends[os.environ["PULUMI_BACKEND_URL"]]

    @stacks.setter
    def stacks(self, stacks: dict[str, dict[str, str] | str]) -> None:
        self.backends[os.environ["PULUMI_BACKEND_URL"]] = stacks

    def run(self, *args: str, code: int = 0, typed: str | None = None) -> str:
        """The command's stdout; its exit code must be that. What it says of errors: `stderr`."""
        result: Result = CliRunner().invoke(cli, args, input=typed, obj=Context(self.clock))
        print(f"$ pulumi-fal {' '.join(args)}\n{result.output}[exit code {result.exit_code}]")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert KEY not in result.output
        assert result.exit_code == code
        self.stderr = result.stderr
        return result.stdout

    def json(self, *args: str, code: int = 0) -> Any:
        return json.loads(self.run(*args, "--json", code=code))

    def refused(self, *args: str, typed: str | None = None) -> str:
        """What the command says on stderr when it refuses."""
        self.run(*args, code=1, typed=typed)
        return self.stderr

    def rent(
        self, instance_type: str = ONE, sector: str | None = None, age: float | None = None
    ) -> str:
        """A machine of the emulator's; its id. The age, if it has one, is the one in state."""
        id_ = self.emulator.state.create(NewInstance(instance_type, ED25519, sector)).id
        if age is not None:
            self.created[id_] = common.moment(NOW - age)
        return id_

    @property
    def alive(self) -> set[str]:
        """The ids of the machines that exist."""
        return set(self.emulator.state.alive())

    @contextmanager
    def running(self, entry: Entry) -> Iterator[None]:
        """A create that another process works on."""
        lock = self.journal.try_lock(entry)
        assert lock is not None
        with lock:
            yield

    def made(self, name: str = "box", **fields: Any) -> Entry:
        """Put a create on record that has made its machine."""
        return self.pend(name, phase=Phase.CREATED, **fields)

    def pend(self, name: str = "box", **fields: Any) -> Entry:
        """Put a create on record, which was sent `age` seconds ago."""
        where = [
            fields.pop(field, other) for field, other in (("provider", ""), ("backend", BACKEND))
        ]
        origin = Origin(fields.pop("urn", urn(name)), *where)
        kind, sector = fields.pop("instance_type", ONE), fields.pop("sector", None)
        values = {
            "account": settings.Settings(self.emulator.url, KEY, "").account,
            "requested": NewInstance(kind, "f" * 32, sector),
            "before": (),
            "started": NOW - fields.pop("age", 0.0),
            "file": new_file(origin),
            **fields,
        }
        entry = Entry(origin, **values)
        self.journal.write(entry)
        return entry

    def pending(self) -> list[Entry]:
        """What is on record now."""
        return [entry for entry in self.journal.entries() if isinstance(entry, Entry)]

    def damage(self, what: str = "record") -> None:
        """Have a record, or the folder of all, be one that can't be read."""
        folder = self.journal.folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        if what == "folder":
            folder.touch()
        else:
            folder.mkdir(exist_ok=True)
            (folder / "0-0-0.json").write_text("{")

    def pulumi(self, *args: str, backend: str = "", **others: Any) -> str:
        """What the `pulumi` command would print."""
        self.meanwhile(args)
        if self.pulumi_says:
            raise StackError(self.pulumi_says)
        if args == ("version",):
            return "v3.259.0\n"
        if args[0] == "whoami":
            raise StackError("nobody is logged in")
        stacks = self.backends[backend] if backend else self.stacks
        if args[:2] == ("stack", "ls"):
            of = f"/{args[3]}/" if args[2] == "--project" else ""
            rows = [{"name": name, "lastUpdate": f"{held}"} for name, held in stacks.items()]
            return json.dumps([row for row in rows if of in row["name"]])
        assert args[:3] == ("stack", "export", "--stack")
        self.exported.append(args[3])
        if "//" in args[3]:
            raise StackError("pass the fully qualified name (organization/project/stack)")
        held = stacks.get(args[3], f"no stack named {args[3]!r} found")
        if isinstance(held, str):
            raise StackError(held)
        types = {name: self.types.get(name, TYPE_TOKEN) for name in held}
        resources = [
            {
                "type": types[name],
                "urn": urn(name, args[3].rpartition("/")[2], types[name]),
                "id": id_,
                "inputs": self._inputs(name, types[name]),
                "outputs": self.seen.get(id_, {}),
                **({"created": self.created[id_]} if id_ in self.created else {}),
            }
            for name, id_ in held.items()
        ]
        provider = {"type": "pulumi:providers:fal", "id": self.providers.get(args[3], "")}
        return json.dumps({"deployment": {"resources": [provider, *resources]}})

    def _inputs(self, name: str, type_: str) -> dict[str, str]:
        spelt = "max_age" if type_ == TYPE_TOKEN else "maxAge"
        return {spelt: self.max_ages[name]} if name in self.max_ages else {}


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """Two stacks without machines, and `key.pub` in the folder."""
    with EmulatorServer(api_key=KEY) as emulator:
        for name in ("FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET"):
            monkeypatch.delenv(name, raising=False)
        environ = {
            **emulator.env,
            "PULUMI_HOME": str(tmp_path / "home"),
            "PULUMI_BACKEND_URL": BACKEND,
            "FAL_COMPUTE_POLL_INTERVAL": "0.05",
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        Path("key.pub").write_text(f"{SSH_KEY}\n")
        line = CommandLine(emulator, Journal(journal.default_folder(environ)))
        monkeypatch.setattr(state, "pulumi", line.pulumi)
        yield line
