"""The lock of a create: one process has it at a time, and the system ends it with the process."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pulumi_fal.machines import journal

HOLDER = """
import pathlib, sys, time
from pulumi_fal.machines import journal
with journal.try_lock(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    """SIGKILL gives it no time to release its lock."""
    path = tmp_path / "a.lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert journal.is_locked(path)
        assert journal.try_lock(path) is None
        holder.kill()
    assert not journal.is_locked(path)


def test_one_has_it_at_a_time(tmp_path: Path) -> None:
    """The file stays, so all lock the same one."""
    path = tmp_path / "a.lock"
    holders: list[int] = []
    together: list[int] = []

    def take_turns(number: int) -> None:
        taken = 0
        while taken < 200:
            lock = journal.try_lock(path)
            if lock is not None:
                with lock:
                    holders.append(number)
                    together.append(len(holders))
                    holders.remove(number)
                taken += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take_turns, range(4)))
    assert together == [1] * 800
    assert path.read_bytes() == b""
