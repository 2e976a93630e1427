"""`make demo` shows what it says, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Run, processes_with, wait_until

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "tools" / "demo.py"


@pytest.fixture
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
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
    run = Run(Path(sys.executable), [str(DEMO), *options], Path.cwd(), env, tmp_path / "output")
    yield run
    run.kill()
    run.wait()
    # Nothing is left, however it ended.
    wait_until(lambda: not processes_with(f"TMPDIR={tmp_path / 'temporary'}"))
    assert list((tmp_path / "temporary").iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.chaos("e2e/test_examples.py::test_quickstart")
def test_demo(demo: Run) -> None:
    """It shows a machine from nothing to gone, whatever FAL_* and PULUMI_* variables are set."""
    ended = demo.wait()
    assert ended.exit_code == 0
    output = ended.output
    id_ = re.search(r"^ +id +([0-9a-f-]{36})$", output, re.MULTILINE)
    address = re.search(r"^ +ssh +ssh ubuntu@([\d.]+)$", output, re.MULTILINE)
    assert id_ is not None
    assert address is not None
    assert "2 unchanged" in output
    assert re.search(r"^ +Open http://127\.0\.0\.1:\d+/ in a browser", output, re.MULTILINE)
    assert "machines made 1, deleted 1, alive 0; resources in state 0" in output


@pytest.mark.chaos("e2e/test_examples.py::test_quickstart")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("demo", [("--api", "v1")], indirect=True, ids=["v1"])
def test_interrupted(demo: Run, number: signal.Signals) -> None:
    """A demo that is interrupted in the middle of `pulumi up` leaves no `pulumi` behind."""
    wait_until(lambda: "machine creating" in demo.output)
    demo.process.send_signal(number)
    ended = demo.wait()
    assert ended.exit_code == 128 + number
    assert "(v1 API)" in ended.output
    assert ended.output.endswith("temporary folder are gone.\n")
