"""Commands, and what `make languages` says while they run."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

YAML_HOST = "pulumi-language-yaml"
"""Pulumi's language host for YAML."""
SECONDS_BETWEEN_SIGNS = 15


class Failed(Exception):
    """What went wrong, with the output that shows it."""


def say(message: str) -> None:
    print(f"languages: {message}", flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say that it begins, at times that it still runs, and how long it took."""
    say(f"{what} ...")
    start = time.monotonic()
    ended = threading.Event()

    def keep_saying() -> None:
        while not ended.wait(SECONDS_BETWEEN_SIGNS):
            say(f"{what}: {time.monotonic() - start:.0f} s so far")

    signs = threading.Thread(target=keep_saying, daemon=True)
    signs.start()
    try:
        yield
    finally:
        ended.set()
        signs.join()
    say(f"{what}: {time.monotonic() - start:.1f} s")


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """The command's stdout. Failed, with all of its output, if it fails or Pulumi warns."""
    words = [str(word) for word in command]
    ended = subprocess.run(
        words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    output = ended.stdout + ended.stderr
    # That the host is found on PATH is how it is meant here; that a plugin is would be news.
    if ended.returncode or re.search(rf"warning: (?!using {YAML_HOST})", output):
        raise Failed(f"`{' '.join(words)}` exited with {ended.returncode}:\n{output}")
    return ended.stdout


def needed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise Failed(f"{program} is not on PATH")
    return found
