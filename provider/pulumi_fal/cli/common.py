"""What commands have in common: how they print, what they begin with, and whose each machine is.

Text is never cut off or broken into lines, so that ids can be copied. Terminals wrap long lines.
Names come from programs, and messages from `pulumi`: neither is read as markup, and no character
in them is one that a terminal acts on.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import operator
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
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
from pulumi_fal.errors import ConfigurationError, JournalError, StackError, printable, runnable
from pulumi_fal.machines import journal, lifecycle
from pulumi_fal.machines.account import Account
from pulumi_fal.machines.journal import Entry
from pulumi_fal.machines.whose import Evidence, Row, candidates, is_gone
from pulumi_fal.resource.call import Costs, only_changes
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
    table = Table.grid(padding=(0, 2, 0, 0))
    # As a header, it would be padded with bold spaces, which a terminal breaks into lines.
    table.add_row(*(Text.assemble((column, "bold")) for column in columns))
    for row in rows:
        cells = (cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row)
        table.add_row(*(cell or "-" for cell in cells))
    _print(table)


def print_record(title: str, fields: Mapping[str, str | Text]) -> None:
    """Print a title, and each field that is not empty, its lines below each other."""
    _print(Text(printable(title), style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", min_width=2 + max(map(len, fields)))
    for name, value in fields.items():
        if value:
            cell = value if isinstance(value, Text) else Text(plain(value))
            table.add_row(f"  {name}", cell)
    _print(table)


def print_lines(lines: str, *, err: bool = False) -> None:
    """Print text, on stderr if it must not disturb a program."""
    click.echo(plain(lines), err=err)


def print_unread(reasons: Mapping[str, str], *, err: bool = False, most: int = sys.maxsize) -> None:
    """Say what could not be read, and why. Of many, only the first are named."""
    for what, why in itertools.islice(reasons.items(), most):
        print_lines(f"Unreadable: {what}: {why}", err=err)
    if (more := len(reasons) - most) > 0:
        print_lines(f"Unreadable: {more} more. `pulumi-fal audit` names them all.", err=err)


def plain(lines: str) -> str:
    """Return the lines without characters that a terminal acts on, and with runnable commands."""
    return "\n".join(map(printable, runnable(lines).split("\n")))


@contextmanager
def progress(note: str = "", *, in_logs: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield what shows on stderr what a command is doing that takes long, from any thread.

    It is a line that ends with `note`, and disappears at the end. If stderr is no terminal, nothing
    is shown, or with `in_logs` each new text on a line.
    """
    if sys.stderr and sys.stderr.isatty():  # with `2>&-`, there is none
        with Console(file=sys.stderr).status("") as line:
            yield lambda text: line.update(Text(f"{text}{note}"))
    elif in_logs:
        yield only_changes(lambda text: print_lines(text, err=True))
    else:
        yield lambda text: None


def status(instance: Instance) -> Text:
    return Text(instance.status, style=_COLOURS.get(instance.status, ""))  # type: ignore[call-overload]


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


_OF_ACCOUNT = {
    option.key: option.variable for option in (settings.API_KEY, settings.ENDPOINT, settings.API)
}
"""The config values that say which account is meant, with the variables that come before them."""
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

    def client(self) -> Client:
        """Return a client."""
        from pulumi_fal.api.client import Client

        return Client(self.settings, self.clock, notify=self._note)

    def _short_settings(self) -> Settings:
        budget = min(_SHORT_BUDGET, self.settings.retry_budget)
        return replace(self.settings, retry_budget=budget)

    def _note(self, message: str) -> None:
        print_lines(message, err=True)

    def config(self, key: str) -> str | None:
        """Return a value of the selected stack's config, or None if it is not set.

        Decrypting a secret may need the stack's passphrase. Raises ConfigurationError if the config
        can't be read and the value may mean another account.
        """
        values = self._config
        if isinstance(values, ConfigurationError):
            if key in _OF_ACCOUNT:
                raise values
            return None
        if key not in values:
            return None
        value = values[key]
        return state.pulumi("config", "get", key).rstrip("\n") if value is None else value

    @cached_property
    def _config(self) -> dict[str, str | None] | ConfigurationError:
        try:
            return state.config() if state.project_file(Path.cwd()) else {}
        except (OSError, StackError) as error:
            if any(none in str(error) for none in (state.NOT_SELECTED, state.NO_COMMAND)):
                return {}
            return ConfigurationError(
                f"The config of the selected stack can't be read: {error}. It may have the key or "
                "the endpoint. Correct that, or to use only the environment, set "
                f"{', '.join(_OF_ACCOUNT.values())}."
            )


pass_context = click.make_pass_decorator(Context, ensure=True)


# What shows whose each machine is: the journal of this computer, and the stacks.

stack_option = click.option(
    "--stack",
    "stacks",
    multiple=True,
    metavar="STACK",
    help="A stack to read; may be given several times. By default all stacks of the backend that "
    "`pulumi` uses here.",
)


@dataclass
class Reader:
    """Reads the journal and the stacks for one command, and once more before it acts.

    List the machines before: the journal has every machine that is created on this computer from
    before it exists until a stack has it.
    """

    context: Context
    stacks: Sequence[str] = ()
    """The stacks to read. Without any, all of the backend are read."""
    seconds: float = math.inf
    """For how long stacks are read. One that there is no time for is unread."""
    note: str = ""
    """What follows how far the reading is, on a terminal."""
    _marks: dict[str, object] = field(default_factory=dict)
    _found: Found = field(default_factory=Found)

    def read(self, instances: Sequence[Instance]) -> Evidence:
        """Return what there is now about these machines.

        A stack that has not changed since the last call is not read again.
        """
        began, journal, stacks = time.monotonic(), self.context.journal, self.context.stacks
        stacks.clear()
        with progress(self.note) as say:
            say("Reading the records of creates")
            entries, unread = self._read_records()
            # The stacks that are read may lack the machine of a create that ends meanwhile.
            relevant = _may_have_made(instances, entries)
            busy = {entry.file for entry in relevant if journal.is_locked(entry)}
            found = self._read_stacks(say, began)
        # A machine may have left a stack for the journal before the stack was read.
        with suppress(JournalError):  # what was read before counts
            files = {entry.file for entry in entries}
            entries += [entry for entry in journal.readable() if entry.file not in files]
        relevant = _may_have_made(instances, entries)
        if entries:
            found = found.at(stacks.backend)
        elsewhere = {
            entry.file: stacks.named(entry.origin)
            for entry in relevant
            if self._is_elsewhere(entry.origin)
        }
        others = functools.reduce(operator.or_, elsewhere.values(), Found()).stacks
        keys = {(stack.backend, stack.name) for stack in found.stacks}
        gone = {
            entry.file
            for entry in ([] if self.stacks else relevant)
            if is_gone(entry, Found(others) | found | elsewhere.get(entry.file, Found()))
        }
        return Evidence(
            entries,
            found.stacks,
            {**unread, **_labelled(found)},
            [stack for stack in others if (stack.backend, stack.name) not in keys],
            {file: _labelled(other) for file, other in elsewhere.items() if other.unread},
            busy | {entry.file for entry in relevant if journal.is_locked(entry)},
            gone,
            self.context.clock.wall(),
        )

    def _read_records(self) -> tuple[list[Entry], dict[str, str]]:
        entries, unread = [], {}
        try:
            for entry in self.context.journal.entries():
                if isinstance(entry, Entry):
                    entries.append(entry)
                else:
                    unread[f"record {entry.path}"] = f"it {entry.problem}"
        except JournalError as error:
            unread[f"folder {error.path}"] = f"it {error.problem}"
        return entries, unread

    def _read_stacks(self, say: Callable[[str], None], began: float) -> Found:
        left = self.seconds - (time.monotonic() - began)
        marks: dict[str, object] = dict.fromkeys(self.stacks)
        try:
            if not marks:  # on a remote backend, this may take long
                say("Listing the stacks")
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
        numbers = itertools.count(1)
        say(f"Reading stacks: 0 of {len(names)}")
        left = max(0.0, self.seconds - (time.monotonic() - began))
        self._marks = marks
        self._found = Found(tuple(kept)) | state.read_all(
            names,
            seconds=left,
            on_read=lambda: say(f"Reading stacks: {next(numbers)} of {len(names)}"),
            marks=marks,
        )
        return self._found

    def _is_elsewhere(self, origin: Origin) -> bool:
        """Whether the stack of a create is not among those that are read."""
        is_here = origin.backend in ("", self.context.stacks.backend)
        return not is_here or (bool(self.stacks) and not any(map(origin.is_in, self.stacks)))


def _may_have_made(instances: Sequence[Instance], entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries of creates that made one of the machines, or may have made it.

    The stacks of others are not looked for: a backend of earlier days may be gone.
    """
    ids = {instance.id for instance in instances}
    named = {entry.instance_id for entry in entries if entry.instance_id}
    return [
        entry
        for entry in entries
        if (entry.instance_id in ids if entry.instance_id else candidates(entry, instances, named))
    ]


def _labelled(found: Found) -> dict[str, str]:
    return {
        name if name.startswith(LIST) else f"stack {name}": why
        for name, why in found.unread.items()
    }


def in_seconds(limit: float) -> int | None:
    """Return a limit for JSON, which has no infinity."""
    return None if math.isinf(limit) else int(limit)


AGED = ("TYPE", "AGE", "MAX AGE", "STACK", "RESOURCE")
"""What `aged` says of a machine besides its id."""


def aged(row: Row, limit: float) -> list[str]:
    """Return the cells of a machine in a stack that exceeds a limit."""
    age, most = (clock.shown_duration(seconds) for seconds in (row.age or 0, limit))
    stack, urn = (row.claim.stack, row.claim.urn) if row.claim else ("", "")
    return [row.instance.id, row.instance.instance_type, age, most, stack, urn]


def costs_of(settings: Settings, rows: Iterable[Row]) -> Costs:
    """Return what the machines cost."""
    ages = {row.instance.id: row.age for row in rows if row.age is not None}
    return Costs(settings.prices, ages)
