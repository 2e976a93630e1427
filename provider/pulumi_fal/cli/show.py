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


@contextmanager
def progress(what: str, total: int, note: str = "") -> Iterator[Callable[[], None]]:
    """Show on stderr how far something is, which has `total` steps. Yields what counts a step.

    Nothing is shown unless stderr is a terminal. It disappears at the end.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    lock, done = threading.Lock(), 0
    with Console(file=sys.stderr).status(f"{what}: 0 of {total}{note}") as line:

        def step() -> None:
            nonlocal done
            with lock:
                done += 1
                line.update(f"{what}: {done} of {total}{note}")

        yield step


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
