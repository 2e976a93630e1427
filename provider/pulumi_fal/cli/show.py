"""Prints the output of commands: tables and records for people, JSON for programs.

Text is never cut off or broken into lines, so that ids can be copied. Terminals wrap long lines.
Names come from programs, and messages from `pulumi`: neither is read as markup, and no character
in them is one that a terminal acts on.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pulumi_fal import clock
from pulumi_fal.api.models import Instance, Status
from pulumi_fal.errors import printable, runnable

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
