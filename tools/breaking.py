#!/usr/bin/env python3
"""Name what the Python API of the last release had and this one lacks: breaking.py [TAG]

tests/unit/test_schema.py holds the names of the native plugin's schema.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "pulumi_fal"
EMULATOR = tuple(f"{PACKAGE}.emulator.{name}." for name in ("server", "state", "faults"))
"""What is public beside the names of the package itself. All other modules are internal."""


def breaks(old: griffe.Object | griffe.Alias, new: griffe.Object | griffe.Alias) -> list[str]:
    """Return what programs can no longer use, or no longer in the same way."""
    exports = [str(name) for name in old.exports or ()]
    public = (*(f"{old[name].canonical_path}." for name in exports), *EMULATOR)
    removed = [f"{PACKAGE}.{name}: removed" for name in exports if name not in (new.exports or ())]
    return removed + [
        f"{found.obj.canonical_path}: {found.kind.value}"
        for found in griffe.find_breaking_changes(old, new)
        if f"{found.obj.canonical_path}.".startswith(public)
    ]


def last_release() -> str:
    """Return the newest tag before this commit, which may have one itself, or nothing."""
    command = ("git", "describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def main() -> None:
    tag = sys.argv[1] if len(sys.argv) > 1 else last_release()
    if not tag:
        print("There is no release to compare with.")
        return
    released = griffe.load_git(PACKAGE, ref=tag, repo=ROOT, search_paths=["provider"])
    found = breaks(released, griffe.load(PACKAGE, search_paths=[ROOT / "provider"]))
    print(*found, sep="\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
