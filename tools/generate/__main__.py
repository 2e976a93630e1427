"""Write the files that say what the code declares: docs/reference.md and schema.json."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import reference, schema

ROOT = Path(__file__).resolve().parents[2]
FILES: Mapping[str, Callable[[], str]] = {
    "docs/reference.md": reference.text,
    "provider/pulumi_fal/native/schema.json": schema.text,
}


def write(root: Path = ROOT) -> None:
    """Write every file that differs."""
    for name in outdated(root):
        (root / name).write_text(FILES[name](), encoding="utf-8", newline="\n")
        print(f"Wrote {name}.")


def outdated(root: Path = ROOT) -> list[str]:
    """Return the names of the files that are not what the code declares."""
    return [name for name, text in FILES.items() if _current(root / name) != text()]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    """Run the command. Raises SystemExit if a check finds a file that is outdated."""
    parser = argparse.ArgumentParser(prog="generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one differs")
    if not parser.parse_args(arguments).check:
        write(root)
    elif names := outdated(root):
        sys.exit(
            f"Not what the code declares: {', '.join(names)}. Run `make generate`, and commit what "
            "it writes."
        )


def _current(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


if __name__ == "__main__":
    main()
