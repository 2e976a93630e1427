"""`make demo` shows what it says, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import SECONDS, processes_with, wait_until

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "tools" / "demo.py"


@pytest.fixture
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The running demo, in an environment whose settings would lead it astray.

    The fixture's parameters, if any, are the demo's options.
    """
    options: tuple[str, ...] = getattr(request, "param", ())
    for folder in ("home", "temporary"):
        (tmp_path / folder).mkdir()
    env = {
        "PATH": os.defpath,
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
        "FAL_ADMIN_API_KEY": "somebody's",
        "FAL_COMPUTE_ENDPOINT": "https://compute.example",
        "PULUMI_BACKEND_URL": "file:///nowhere",
        "PULUMI_HOME": "/nowhere",
        "PULUMI_STACK": "production",
        **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
    }
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, DEMO, *options], env=env, stdout=output, stderr=subprocess.STDOUT
        )
    yield process
    process.kill()
    process.wait()
    print((tmp_path / "output").read_text())
    # Nothing is left, however it ended.
    wait_until(lambda: not processes_with(f"TMPDIR={tmp_path / 'temporary'}"))
    assert list((tmp_path / "temporary").iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == []


def test_the_demo_shows_a_machine_from_nothing_to_gone(
    demo: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """The demo ignores the FAL_* and PULUMI_* variables of its user."""
    assert demo.wait(SECONDS) == 0
    output = (tmp_path / "output").read_text()
    id_ = re.search(r"^ +id +([0-9a-f-]{36})$", output, re.MULTILINE)
    address = re.search(r"^ +ssh +ssh ubuntu@([\d.]+)$", output, re.MULTILINE)
    assert id_ is not None
    assert address is not None
    assert "2 unchanged" in output
    assert re.search(r"^ +Open http://127\.0\.0\.1:\d+/ in a browser", output, re.MULTILINE)
    assert "machines made 1, deleted 1, alive 0; resources in state 0" in output
    _, _, after = output.partition("Done. What to try next:\n")
    emulators = re.findall(r"^ +(\S+ -m pulumi_fal\.emulator.*)$", after, re.MULTILINE)
    assert len(emulators) == 2
    for command in emulators:
        subprocess.run([*command.split(), "--help"], check=True)
    paths = re.findall(r"(?:examples|docs)/[\w-]+(?:\.md)?|README\.md", after)
    assert len(paths) == 3
    assert all((ROOT / path).exists() for path in paths)


@pytest.mark.chaos("e2e/test_demo.py::test_the_demo_shows_a_machine_from_nothing_to_gone")
@pytest.mark.parametrize("demo", [("--api", "v1")], indirect=True)
def test_an_interrupted_demo_ends_and_says_so(
    demo: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """A demo that is interrupted in the middle of `pulumi up` leaves no `pulumi` behind."""
    interrupt(demo, tmp_path, signal.SIGINT)
    assert "(v1 API)" in (tmp_path / "output").read_text()


def interrupt(demo: subprocess.Popen[bytes], tmp_path: Path, number: signal.Signals) -> None:
    """Send the signal while the demo's `pulumi up` runs, and check its end."""
    wait_until(lambda: "machine creating" in (tmp_path / "output").read_text())
    demo.send_signal(number)
    assert demo.wait(SECONDS) == 128 + number
    assert (tmp_path / "output").read_text().endswith("temporary folder are gone.\n")
