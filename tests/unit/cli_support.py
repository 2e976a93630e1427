"""`pulumi-fal` in this process: an emulator, an empty folder and a journal of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pulumi_fal.api import settings
from pulumi_fal.api.models import NewInstance
from pulumi_fal.cli.app import cli
from pulumi_fal.cli.context import Context
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.errors import StackError
from pulumi_fal.machines import journal
from pulumi_fal.machines.entry import Entry
from pulumi_fal.machines.journal import Journal
from pulumi_fal.stacks import cli as pulumi_cli
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.tokens import TYPE_TOKEN

from ..fakes import ED25519, KEY, ONE

BACKEND = "file://C:/state" if os.name == "nt" else "file:///state"
NOW = 1_700_000_000.0


def urn(name: str, stack_name: str = "dev", type_: str = TYPE_TOKEN) -> str:
    """The URN of a machine's resource in the project `train`."""
    return f"urn:pulumi:{stack_name}::train::{type_}::{name}"


class CommandLine:
    """Runs commands. `stacks` is what the `pulumi` command would find: ids by resource, or why not.

    `seen` is what state says of a machine, by its id: outputs `account` and `endpoint`. No output
    ever has the API's key in it, or a traceback.
    """

    def __init__(self, emulator: EmulatorServer, home: Path, here: Context | None) -> None:
        self.emulator = emulator
        self.journal = Journal(journal.default_folder({"PULUMI_HOME": str(home)}))
        self.here = here
        self.stacks: dict[str, dict[str, str] | str] = {}
        self.seen: dict[str, dict[str, str]] = {}
        self.created: dict[str, str] = {}
        """When stacks recorded machines, by their ids, as `pulumi stack export` prints it."""
        self.types: dict[str, str] = {}
        """The types of resources that are not Python's dynamic ones, by their names."""
        self.pulumi_says = ""
        """Why there is no `pulumi` command to ask, if so."""
        self.stderr = ""

    def run(self, *args: str, code: int = 0, typed: str | None = None) -> str:
        """The command's stdout; its exit code must be that. What it says of errors: `stderr`."""
        result: Result = CliRunner().invoke(cli, args, input=typed, obj=self.here)
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

    def rent(self, instance_type: str = ONE, sector: str | None = None) -> str:
        """A machine of the emulator's; its id."""
        return self.emulator.state.create(NewInstance(instance_type, ED25519, sector)).id

    def pend(self, name: str = "box", **fields: Any) -> Entry:
        """Put a create on record."""
        origin = Origin(
            fields.pop("urn", urn(name)),
            fields.pop("organization", "organization"),
            fields.pop("backend", BACKEND),
        )
        given = settings.Settings(self.emulator.url, KEY, "")
        values = {
            "account": given.account,
            "requested": NewInstance(
                fields.pop("instance_type", ONE), "f" * 32, fields.pop("sector", None)
            ),
            "before": (),
            "started": NOW,
            **fields,
        }
        entry = Entry(origin, **values)
        self.journal.write(entry)
        return entry

    def pending(self) -> list[Entry]:
        """What is on record now."""
        return [entry for entry in self.journal.entries() if isinstance(entry, Entry)]

    def pulumi(self, *args: str, **others: Any) -> str:
        """What the `pulumi` command would print."""
        if self.pulumi_says:
            raise StackError(self.pulumi_says)
        if args[:2] == ("stack", "ls"):
            of = f"/{args[3]}/" if args[2] == "--project" else ""
            return json.dumps([{"name": name} for name in self.stacks if of in name])
        if args[0] in ("whoami", "about"):
            raise StackError("nobody is logged in")
        assert args[:3] == ("stack", "export", "--stack")
        held = self.stacks.get(args[3], f"no stack named {args[3]!r} found")
        if isinstance(held, str):
            raise StackError(held)
        types = {name: self.types.get(name, TYPE_TOKEN) for name in held}
        resources = [
            {
                "type": types[name],
                "urn": urn(name, args[3].rpartition("/")[2], types[name]),
                "id": id_,
                "outputs": self.seen.get(id_, {}),
                **({"created": self.created[id_]} if id_ in self.created else {}),
            }
            for name, id_ in held.items()
        ]
        return json.dumps({"deployment": {"resources": resources}})


@contextmanager
def command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Context | None = None
) -> Iterator[CommandLine]:
    """For a fixture of that name."""
    with EmulatorServer(api_key=KEY) as emulator:
        for name, value in emulator.env.items():
            monkeypatch.setenv(name, value)
        for name in ("FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET", "PULUMI_BACKEND_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        line = CommandLine(emulator, tmp_path / "home", here)
        monkeypatch.setattr(pulumi_cli, "pulumi", line.pulumi)
        yield line
