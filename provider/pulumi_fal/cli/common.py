"""What commands have in common: how they print, what they begin with, and whose each machine is.

Text is never cut off or broken into lines, so that ids can be copied. Terminals wrap long lines.
Names come from programs, and messages from `pulumi`: neither is read as markup, and no character
in them is one that a terminal acts on.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import operator
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pulumi_fal import clock
from pulumi_fal.api import settings
from pulumi_fal.api.models import Instance, Status
from pulumi_fal.api.settings import Settings
from pulumi_fal.clock import Clock
from pulumi_fal.errors import JournalError, StackError, printable, runnable
from pulumi_fal.machines import journal, lifecycle
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.journal import Entry
from pulumi_fal.machines.whose import Claim, Evidence, Whose, candidates, is_gone
from pulumi_fal.stacks import state
from pulumi_fal.stacks.cache import LIST, Origin, Stacks
from pulumi_fal.stacks.state import Found

if TYPE_CHECKING:
    from pulumi_fal.api.client import Client


_WIDE = 10_000
_COLOURS = {
    Status.READY: "green",
    Status.PENDING: "yellow",
    Status.INIT: "yellow",
    Status.PROVISIONING: "yellow",
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Don't ask for confirmation.")


def print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    # As a header, it would be padded with bold spaces, which a terminal breaks into lines.
    table.add_row(*(Text.assemble((column, "bold")) for column in columns))
    for row in rows:
        cells = (cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row)
        table.add_row(*(cell or "-" for cell in cells))
    _print(table)


def print_record(title: str, fields: Mapping[str, str | Text]) -> None:
    """Print a title, and each field that is not empty, its lines below each other."""
    _print(Text(printable(title), style="bold"))
    width = max(map(len, fields)) + 2
    for name, value in fields.items():
        if value:
            lines = value if isinstance(value, Text) else Text(plain(value))
            first, *others = lines.split("\n")
            _print(Text.assemble((f"  {name:<{width}}", "dim"), first))
            for line in others:
                _print(Text.assemble(" " * (2 + width), line))


def print_lines(lines: str, *, err: bool = False) -> None:
    """Print text, on stderr if it must not disturb a program."""
    click.echo(plain(lines), err=err)


def print_unread(reasons: Mapping[str, str], *, err: bool = False, most: int | None = None) -> None:
    """Say what could not be read, and why. Of many, only the first are named."""
    for what, why in list(reasons.items())[:most]:
        print_lines(f"Unreadable: {what}: {why}", err=err)
    if most is not None and len(reasons) > most:
        more = len(reasons) - most
        print_lines(f"Unreadable: {more} more. `pulumi-fal audit` names them all.", err=err)


def plain(lines: str) -> str:
    """Return the lines without characters that a terminal acts on, and with runnable commands."""
    return "\n".join(map(printable, runnable(lines).split("\n")))


class Progress:
    """Says on stderr what a command is doing that takes long. Can be used from any thread."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._what, self._done, self._total = "", 0, 0
        self._said = ""

    def begin(self, what: str, total: int = 0) -> None:
        """Say what is done from now on. `total` is its number of steps if that is known."""
        with self._lock:
            self._what, self._done, self._total = what, 0, total
            self._show()

    def step(self) -> None:
        """Count a step."""
        with self._lock:
            self._done += 1
            self._show()

    def _show(self) -> None:
        steps = f": {self._done} of {self._total}" if self._total else ""
        text, said = f"{self._what}{steps}", self._said
        if text != said:
            self._said = text
            self._say(text)


@contextmanager
def progress(note: str = "", *, in_logs: bool = False) -> Iterator[Progress]:
    """Yield a Progress whose line ends with `note`. The line disappears at the end.

    If stderr is no terminal, nothing is shown, or with `in_logs` each text on a line.
    """
    if not sys.stderr.isatty():
        yield Progress(lambda text: print_lines(text, err=True) if in_logs else None)
        return
    with Console(file=sys.stderr).status("") as line:
        yield Progress(lambda text: line.update(Text(f"{text}{note}")))


def status(instance: Instance) -> Text:
    return Text(instance.status, style=_COLOURS.get(instance.status, ""))  # type: ignore[call-overload]


def machine(instance: Instance) -> str:
    """Describe a machine on one line."""
    address = instance.ip or "no ip"
    return f"{instance.id} ({instance.instance_type}, {instance.status}, {address})"


def moment(seconds: float) -> str:
    """Format a time in seconds since the epoch as ISO 8601 in UTC, for JSON."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def since(seconds: float, now: float) -> str:
    """Format a time in seconds since the epoch as local time, with its age."""
    age = clock.shown_duration(max(0.0, now - seconds))
    return f"{clock.local(seconds):%Y-%m-%d %H:%M} ({age} ago)"


def _print(renderable: RenderableType) -> None:
    console = Console(file=sys.stdout, width=_WIDE, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    # rich pads the last column with spaces.
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


_SHORT_BUDGET = 5.0
"""The retry budget in seconds for calls that a command can do without."""


class Context:
    """The objects that commands need. Each is created on first use."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.stacks = Stacks()

    @cached_property
    def journal(self) -> journal.Journal:
        return journal.Journal(journal.default_folder(os.environ))

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises ConfigurationError if there is no key."""
        return settings.resolve(os.environ, self.config)

    @cached_property
    def account(self) -> Account:
        """What a plugin knows of creates. A failing call is retried for a short time only."""
        return Account(
            self.journal,
            self.stacks,
            self.clock,
            self._short_settings,
            notify=self._note,
            greeting=lifecycle.chosen_greeting(os.environ),
        )

    def client(self, *, is_short: bool = False) -> Client:
        """Return a client. With `is_short`, a failing call is retried for a short time only."""
        from pulumi_fal.api.client import Client

        used = self._short_settings() if is_short else self.settings
        return Client(used, self.clock, notify=self._note)

    def _short_settings(self) -> Settings:
        budget = min(_SHORT_BUDGET, self.settings.retry_budget)
        return dataclasses.replace(self.settings, retry_budget=budget)

    def _note(self, message: str) -> None:
        click.echo(message, err=True)

    def config(self, key: str) -> str | None:
        """Return a value of the selected stack's config, or None if it is not set.

        Decrypting a secret may need the stack's passphrase.
        """
        if key not in self._config:
            return None
        value = self._config[key]
        return state.pulumi("config", "get", key).rstrip("\n") if value is None else value

    @cached_property
    def _config(self) -> dict[str, str | None]:
        if not state.project_file(Path.cwd()):
            return {}
        try:
            return state.config()
        except StackError:
            return {}


pass_context = click.make_pass_decorator(Context, ensure=True)


# What shows whose each machine is: the journal of this computer, and the stacks.

STACKS_SECONDS = 30.0
"""The most time that a command spends on stacks of which it only shows names."""
MOST_NAMED = 3
"""How many of the stacks that can't be read are named there."""

Row = tuple[Instance, Whose, Claim | None]
"""A machine, whose it is, and what shows that."""

stack_option = click.option(
    "--stack",
    "stacks",
    multiple=True,
    metavar="STACK",
    help="A stack to read; may be given several times. By default all stacks of the backend that "
    "`pulumi` uses here.",
)


class Reader:
    """Reads the journal and the stacks for one command, and once more before it acts.

    List the machines before: the journal has every machine that is created on this computer from
    before it exists until a stack has it.
    """

    def __init__(
        self,
        context: Context,
        stacks: Sequence[str] = (),
        seconds: float = math.inf,
        note: str = "",
    ) -> None:
        """Without `stacks`, all stacks of the backend are read. A stack that there is no time for
        within so many seconds is unread. `note` follows how far the reading is, on a terminal.
        """
        self._context = context
        self._stacks = list(dict.fromkeys(stacks))
        self._seconds = seconds
        self._note = note
        self._marks: dict[str, object] = {}
        self._found = Found()

    def read(self, instances: Sequence[Instance]) -> Evidence:
        """Return what there is now about these machines.

        A stack that has not changed since the last call is not read again.
        """
        began, is_locked = time.monotonic(), self._context.journal.is_locked
        self._context.stacks.clear()
        with progress(self._note) as steps:
            entries, unread = self._read_records(steps)
            # The stacks that are read may lack the machine of a create that ends meanwhile.
            busy = {
                entry.file
                for entry in entries
                if _may_have_made(entry, instances, entries) and is_locked(entry)
            }
            found = self._read_stacks(steps, began)
        # A machine may have left a stack for the journal before the stack was read.
        entries += self._records_since(entries)
        relevant = [entry for entry in entries if _may_have_made(entry, instances, entries)]
        if entries:
            found = found.at(self._context.stacks.backend)
        elsewhere = self._read_elsewhere(relevant)
        others = functools.reduce(operator.or_, elsewhere.values(), Found()).stacks
        keys = {(stack.backend, stack.name) for stack in found.stacks}
        gone = {
            entry.file
            for entry in ([] if self._stacks else relevant)
            if is_gone(entry, Found(others) | found | elsewhere.get(entry.file, Found()))
        }
        return Evidence(
            entries,
            found.stacks,
            {**unread, **_labelled(found)},
            [stack for stack in others if (stack.backend, stack.name) not in keys],
            {file: _labelled(other) for file, other in elsewhere.items() if other.unread},
            busy | {entry.file for entry in relevant if is_locked(entry)},
            gone,
            self._context.clock.wall(),
        )

    def _records_since(self, known: Sequence[Entry]) -> list[Entry]:
        """Return the entries that were not there before."""
        files = {entry.file for entry in known}
        with suppress(JournalError):  # what was read before counts
            return [entry for entry in self._context.journal.readable() if entry.file not in files]
        return []

    def _read_records(self, progress: Progress) -> tuple[list[Entry], dict[str, str]]:
        progress.begin("Reading the records of creates")
        entries, unread = [], {}
        try:
            for entry in self._context.journal.entries():
                if isinstance(entry, Entry):
                    entries.append(entry)
                else:
                    unread[f"record {entry.path}"] = f"it {entry.problem}"
        except JournalError as error:
            unread[f"folder {error.path}"] = f"it {error.problem}"
        return entries, unread

    def _read_stacks(self, progress: Progress, began: float) -> Found:
        left = self._seconds - (time.monotonic() - began)
        marks: dict[str, object] = dict.fromkeys(self._stacks)
        try:
            if not marks:  # on a remote backend, this may take long
                progress.begin("Listing the stacks")
                marks = state.names(seconds=min(left, state.SECONDS))
        except StackError as error:
            return Found((), {LIST: str(error)})
        # Without a mark it is not known whether a stack has changed.
        kept = [
            stack
            for stack in self._found.stacks
            if marks.get(stack.name) and marks[stack.name] == self._marks.get(stack.name)
        ]
        names = [name for name in marks if name not in {stack.name for stack in kept}]
        progress.begin("Reading stacks", len(names))
        left = max(0.0, self._seconds - (time.monotonic() - began))
        self._marks = marks
        self._found = Found(tuple(kept)) | state.read_all(names, "", left, progress.step, marks)
        return self._found

    def _read_elsewhere(self, entries: Sequence[Entry]) -> dict[str, Found]:
        """Look for the stacks of creates that are not among those that are read, by their files."""
        stacks = self._context.stacks

        def is_beside(origin: Origin) -> bool:
            is_here = origin.backend in ("", stacks.backend)
            is_read = is_here and (not self._stacks or any(map(origin.is_in, self._stacks)))
            return not is_read

        return {
            entry.file: stacks.named(entry.origin) for entry in entries if is_beside(entry.origin)
        }


def _may_have_made(entry: Entry, instances: Sequence[Instance], entries: Sequence[Entry]) -> bool:
    """Whether the create made one of the machines, or may have made it.

    The stacks of others are not looked for: a backend of earlier days may be gone.
    """
    if entry.instance_id:
        return any(instance.id == entry.instance_id for instance in instances)
    named = {other.instance_id for other in entries if other.instance_id}
    return bool(candidates(entry, instances, named))


def _labelled(found: Found) -> dict[str, str]:
    return {
        name if name.startswith(LIST) else f"stack {name}": why
        for name, why in found.unread.items()
    }


def recorded(evidence: Evidence) -> dict[str, float]:
    """Return the earliest time at which a stack recorded each machine, by the machine's id."""
    found: dict[str, float] = {}
    for claim in evidence.held:
        if claim.created is not None:
            found[claim.id] = min(claim.created, found.get(claim.id, claim.created))
    return found


def ages(evidence: Evidence) -> dict[str, int]:
    """Return the known ages in seconds; 0 if the clock of who recorded the machine is ahead."""
    return {id_: max(0, int(evidence.now - moment)) for id_, moment in recorded(evidence).items()}


def in_seconds(limit: float) -> int | None:
    """Return a limit for JSON, which has no infinity."""
    return None if math.isinf(limit) else int(limit)


AGED = ("TYPE", "AGE", "MAX AGE", "STACK", "RESOURCE")
"""What a table says of each Aged besides its id."""


@dataclass(frozen=True)
class Aged:
    """A machine in a stack, with its age in seconds, and the most that it is meant to reach."""

    instance: Instance
    claim: Claim
    age: int | None
    """None if it is not known."""
    max_age: float

    def exceeds(self, seconds: float) -> bool:
        """Whether it is known to be older."""
        return self.age is not None and self.age > seconds

    def row(self, limit: float) -> list[str]:
        """Return the cells of a table. `limit` is what the machine exceeds."""
        age, most = (clock.shown_duration(seconds) for seconds in (self.age or 0, limit))
        id_, kind = self.instance.id, self.instance.instance_type
        return [id_, kind, age, most, self.claim.stack, self.claim.urn]


def aged(evidence: Evidence, rows: Iterable[Row]) -> list[Aged]:
    """Return the machines in the stacks that were read, out of these."""
    known, max_ages = ages(evidence), evidence.max_ages
    held = {claim.id for claim in evidence.held}
    return [
        Aged(instance, claim, known.get(instance.id), max_ages[instance.id])
        for instance, _, claim in rows
        if claim is not None and instance.id in held
    ]
