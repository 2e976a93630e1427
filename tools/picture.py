"""Record `make demo` and an `up` of examples/fleet as pictures in docs: `make picture`.

Each runs on a terminal of its own. The pictures have what is on it at the end, without empty lines,
the step in which nothing changes, and the hints after the last one.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text
from tools import demo

from pulumi_fal.emulator.server import EmulatorServer

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, ROWS = 100, 100
MACHINES = "24"
THEMES = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}
MOVES = re.compile(r"\x1b\[(\d+)A")
UNSEEN = re.compile(r"\x1b\[(K|\?25[lh])|\r")


def main() -> None:
    if sys.argv[1:] == ["fleet"]:
        rent_fleet()
    else:
        draw("demo", "make demo", "tools.demo")
        draw("fleet", f"pulumi up --parallel {MACHINES}", "tools.picture", "fleet")


def rent_fleet() -> None:
    """Run `up` on this terminal, with many machines of an emulator."""
    with tempfile.TemporaryDirectory() as folder, EmulatorServer(provisioning=4.0) as emulator:
        pulumi = demo.Pulumi(Path(folder), {**emulator.env, **demo.POLLS})
        where = (f"--dir={pulumi.project}", f"--runtime-options=virtualenv={sys.prefix}")
        example = str(ROOT / "examples" / "fleet")
        pulumi.read("new", example, "--generate-only", "--offline", "--yes", "--name=fleet", *where)
        pulumi.read("stack", "init", "dev")
        pulumi.read("config", "set", "sshPublicKey", demo.SSH_KEY)
        pulumi.read("config", "set", "size", MACHINES)
        pulumi.show("up", "--yes", "--skip-preview", "--suppress-outputs", "--parallel", MACHINES)


def draw(name: str, title: str, *module: str) -> None:
    output = record([sys.executable, "-m", *module])
    lines = shortened(Text.from_ansi("\n".join(on_screen(output))))
    for kind, theme in THEMES.items():
        file = ROOT / "docs" / f"{name}-{kind}.svg"
        file.write_text(svg(lines, name, title, theme), encoding="utf-8")
        print(f"Wrote {file.relative_to(ROOT)}.")


def record(command: list[str]) -> str:
    """Run the command on a terminal, and return all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 65536):
            written += chunk
    except OSError:  # Linux says so when the last process has closed the terminal
        pass
    if process.wait():
        sys.exit(written.decode())
    return written.decode()


def on_screen(output: str) -> list[str]:
    """Return the lines that are left when some were written over.

    Pulumi writes its table again and again: it moves up to the first line, and replaces each.
    """
    lines: list[str] = []
    at = 0
    for written in output.split("\n"):
        at -= sum(int(up) for up in MOVES.findall(written))
        lines[at : at + 1] = [UNSEEN.sub("", MOVES.sub("", written))]
        at += 1
    return lines


def shortened(text: Text) -> list[Text]:
    """Return the lines of the steps that are shown, with an empty line before each."""
    lines: list[Text] = []
    is_shown = True
    for line in text.split("\n"):
        if line.plain.startswith(("-> ", "Done. ")):
            is_shown = not re.search("nothing to do|try next", line.plain)
            lines += [Text()] if is_shown else []
        if is_shown and line.plain.strip():
            lines.append(line)
    return lines


def svg(lines: list[Text], name: str, title: str, theme: TerminalTheme) -> str:
    """Return a picture of a terminal. It loads nothing from elsewhere, so it has no fonts."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="256"
    )
    console.print(*lines, sep="\n")
    drawn = console.export_svg(title=title, theme=theme, unique_id=name)
    return re.sub(r"(?s)\s*@font-face \{.*?\}", "", drawn)


if __name__ == "__main__":
    main()
