#!/usr/bin/env python3
"""Print what a version's release says, its section of the changelog: release.py v1.2.3

It fails unless the tag is the version of the package and the changelog has a section for it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION_FILE = "provider/pulumi_fal/_version.py"


class NotReady(Exception):
    """Why there is no release, and what to do about it."""


def notes(tag: str, version_file: str, changelog: str) -> str:
    """The text of the release."""
    version = re.search(r'__version__ = "(.+)"', version_file)
    if version is None or tag != f"v{version[1]}":
        found = version[1] if version else "no version"
        raise NotReady(f"The tag is {tag}, but {VERSION_FILE} has {found}. Set it and tag again.")
    section = re.search(
        rf"(?ms)^## \[{re.escape(version[1])}\] - \d{{4}}-\d\d-\d\d$(.*?)(?=^## |\Z)", changelog
    )
    if section is None or not section[1].strip():
        raise NotReady(
            f"CHANGELOG.md says nothing of {version[1]}. "
            f"Make '## [{version[1]}] - YYYY-MM-DD' of its '## [Unreleased]' and tag again."
        )
    return section[1].strip() + "\n"


def main() -> None:
    try:
        print(
            notes(
                sys.argv[1],
                (ROOT / VERSION_FILE).read_text(encoding="utf-8"),
                (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
            ),
            end="",
        )
    except NotReady as reason:
        sys.exit(f"release: {reason}")


if __name__ == "__main__":
    main()
