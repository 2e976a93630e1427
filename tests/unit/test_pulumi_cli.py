"""Which `pulumi` is run, and what becomes of its answer: it is a Python program here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pulumi_fal.errors import StackError
from pulumi_fal.stacks import cli as pulumi_cli

from ..commands import command

Put = Callable[..., Path]


@pytest.fixture
def proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """A /proc where this process, number 40 of group 30, has no parents but those that are put."""
    if os.name == "nt":
        pytest.skip("Windows has no /proc")
    monkeypatch.setattr(os, "getppid", lambda: 30)
    monkeypatch.setattr(os, "getpgrp", lambda: 30)

    def put(pid: int, parent: int, group: int, exe: Path | str = "/bin/sh") -> Path:
        process = tmp_path / "proc" / str(pid)
        process.mkdir(parents=True)
        (process / "stat").write_bytes(b"%d (a ) b \xff(c) S %d %d 1 0" % (pid, parent, group))
        (process / "exe").symlink_to(exe)
        return process

    return put


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `pulumi` is on PATH, beside this Python or above this process."""
    monkeypatch.setattr(pulumi_cli, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Puts a command on PATH that prints something; the file that says how it was called."""
    called = tmp_path / "called"

    def put(output: str, *, status: int = 0, words: str = "") -> Path:
        command(
            tmp_path / "bin" / "pulumi",
            "import os, pathlib, sys\n"
            "settings = map(os.environ.get, ('PULUMI_BACKEND_URL', 'PULUMI_SKIP_UPDATE_CHECK'))\n"
            "said = [*settings, os.getcwd(), *sys.argv[1:]]\n"
            f"pathlib.Path({str(called)!r}).write_text(' '.join(map(str, said)))\n"
            f"print({output!r})\n"
            f"print({words!r}, file=sys.stderr)\n"
            f"sys.exit({status})\n",
        )
        return called

    return put


# What it is asked, and answers.


def test_a_command_runs_in_the_projects_folder_without_questions(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its backend is the current one by default."""
    called = put("{}")
    monkeypatch.chdir(tmp_path)
    where = os.path.realpath(tmp_path)
    assert pulumi_cli.pulumi("stack", "ls") == "{}\n"
    assert called.read_text() == f"None 1 {where} stack ls --non-interactive --color=never"
    (tmp_path / "Pulumi.yaml").touch()
    (tmp_path / "program").mkdir()
    monkeypatch.chdir(tmp_path / "program")
    pulumi_cli.pulumi("stack", "ls", backend="s3://other")
    assert called.read_text().startswith(f"s3://other 1 {where} stack ls")


def test_json_is_read_and_anything_else_is_refused(put: Put) -> None:
    """Output that is no JSON is an error that names the command."""
    put('{"a": [1]}')
    assert pulumi_cli.ask("whoami") == {"a": [1]}
    put("not JSON")
    with pytest.raises(StackError, match="`pulumi whoami` printed no JSON"):
        pulumi_cli.ask("whoami")


def test_a_command_that_fails_says_why(put: Put) -> None:
    """A command that fails is reported with its stderr, or with its exit code."""
    put("{}", status=255, words="error: no stack named 'dev' found")
    with pytest.raises(StackError, match="`pulumi a b` failed: no stack named 'dev' found"):
        pulumi_cli.pulumi("a", "b")
    put("", status=3)
    with pytest.raises(StackError, match="failed: exit code 3"):
        pulumi_cli.pulumi("a")
    put("", status=1, words="no \x1b[31mpostgres://me:s3cr3t@host/db, postgres://you@host:1/x\n")
    with pytest.raises(
        StackError, match=r"failed: no {1,2}\[31mpostgres://host/db, postgres://host:1/x$"
    ):
        pulumi_cli.pulumi("a")


def test_a_command_that_can_not_run_says_so(tmp_path: Path) -> None:
    """A command that can't be run, as one for another processor, is an error."""
    file = tmp_path / "bin" / ("pulumi.exe" if os.name == "nt" else "pulumi")
    file.parent.mkdir()
    file.write_bytes(b"\x7fELF of another world")
    file.chmod(0o755)
    with pytest.raises(StackError, match="can't be started"):
        pulumi_cli.pulumi("version")


def test_a_command_that_does_not_end_is_killed_in_time(tmp_path: Path) -> None:
    """A command that hangs is killed in time, so that no create waits for it."""
    file = command(tmp_path / "bin" / "pulumi", "import time\ntime.sleep(60)\n")
    if os.name == "nt":  # the command is cmd itself: another process would outlive it
        file.write_text(":again\n@goto again\n")
    with pytest.raises(StackError, match=r"did not end within 0\.05 s"):
        pulumi_cli.pulumi("version", seconds=0.05)


# Which one it is.


def test_without_a_command_there_is_no_answer() -> None:
    """Without `pulumi` on PATH or beside Python, the error says so."""
    with pytest.raises(StackError, match="there is no `pulumi` command"):
        pulumi_cli.pulumi("version")


def test_a_command_beside_this_python_serves_as_well(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `pulumi` of a virtual environment is found although it is not activated."""
    put("beside")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert pulumi_cli.pulumi("version") == "beside\n"


@pytest.mark.parametrize("name", ["pulumi", "pulumi-3.259"])
def test_the_command_that_started_this_process_comes_first(
    put: Put, proc: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    """Another version on PATH may not know the state's format."""
    put("its own")
    (tmp_path / "bin" / "pulumi").rename(tmp_path / name)
    put("another one")
    proc(30, 20, 20, tmp_path / name)
    assert pulumi_cli.pulumi("version") == "its own\n"
    (tmp_path / name).unlink()  # an upgrade
    assert pulumi_cli.pulumi("version") == "another one\n"


@pytest.mark.parametrize(
    "above, runs",
    [
        ([], "on PATH"),
        ([(30, 20, 20, "/bin/sh")], "on PATH"),
        ([(30, 20, 30, "/bin/sh"), (20, 10, 30, "/bin/sh"), (10, 1, 10, "its own")], "its own"),
        ([(30, 1, 30, "/bin/sh"), (1, 0, 1, "its own")], "on PATH"),
        ([(30, 20, 20, "")], "on PATH"),
    ],
)
def test_the_cli_is_the_first_process_above_in_another_group(
    put: Put,
    proc: Callable[..., Path],
    tmp_path: Path,
    above: list[tuple[int, int, int, str]],
    runs: str,
) -> None:
    """No shell is run, nor process 1, which adopts those whose parent was killed."""
    put("its own")
    (tmp_path / "bin" / "pulumi").rename(tmp_path / "pulumi")
    put("on PATH")
    for *numbers, exe in above:
        process = proc(*numbers, tmp_path / "pulumi" if exe == "its own" else exe or "/bin/sh")
        if not exe:  # another person's
            (process / "exe").unlink()
    assert pulumi_cli.pulumi("version") == f"{runs}\n"


@pytest.mark.parametrize("name", ["Pulumi.yaml", "Pulumi.yml", "Pulumi.json"])
def test_the_nearest_project_counts(tmp_path: Path, name: str) -> None:
    """The project file that is nearest above the folder counts."""
    program = tmp_path / "project" / "src" / "program"
    program.mkdir(parents=True)
    (tmp_path / "project" / "Pulumi.yaml").touch()
    assert pulumi_cli.project_file(program) == tmp_path / "project" / "Pulumi.yaml"
    (program / name).touch()
    assert pulumi_cli.project_file(program) == program / name
