"""Prints the output of commands: tables and records for people, JSON for programs.

Text is never cut off or broken into lines, so that ids can be copied. Terminals wrap long lines.
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

from pulumi_fal.api.models import Instance, Status

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
    table = Table(*columns, box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(cell or "-" for cell in row))
    _print(table)


def print_record(title: str, fields: Mapping[str, str | Text]) -> None:
    """Print a title, and each field that is not empty, its lines below each other."""
    _print(Text(title, style="bold"))
    width = max(map(len, fields)) + 2
    for name, value in fields.items():
        if value:
            first, *others = (value if isinstance(value, Text) else Text(value)).split("\n")
            _print(Text.assemble((f"  {name:<{width}}", "dim"), first))
            for line in others:
                _print(Text.assemble(" " * (2 + width), line))


def print_lines(lines: str) -> None:
    _print(Text(lines))


class Progress:
    """Says on stderr what a command is doing that takes long. Can be used from any thread."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._what, self._done, self._total = "", 0, 0

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
        self._say(f"{self._what}{steps}")


@contextmanager
def progress(note: str = "") -> Iterator[Progress]:
    """Yield a Progress whose line ends with `note`. The line disappears at the end.

    Nothing is shown unless stderr is a terminal.
    """
    if not sys.stderr.isatty():
        yield Progress(lambda text: None)
        return
    with Console(file=sys.stderr).status("") as line:
        yield Progress(lambda text: line.update(f"{text}{note}"))


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
    local = datetime.fromtimestamp(seconds, timezone.utc).astimezone()
    age = max(0, int(now - seconds))
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if age >= size or unit == "second":
            count = age // size
            return f"{local:%Y-%m-%d %H:%M} ({count} {unit}{'' if count == 1 else 's'} ago)"
    raise AssertionError("unreachable")


def _print(renderable: RenderableType) -> None:
    console = Console(file=sys.stdout, width=_WIDE, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    # rich pads the last column with spaces.
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
