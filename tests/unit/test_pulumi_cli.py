"""Which `pulumi` is run, what becomes of its answer, and which backend it uses."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.errors import StackError
from pulumi_fal.stacks import cache
from pulumi_fal.stacks import cli as pulumi_cli

from ..processes import command

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


def test_how_it_runs(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_json(put: Put) -> None:
    """Output that is no JSON is an error that names the command."""
    put('{"a": [1]}')
    assert pulumi_cli.ask("whoami") == {"a": [1]}
    put("not JSON")
    with pytest.raises(StackError, match="`pulumi whoami` printed no JSON"):
        pulumi_cli.ask("whoami")


def test_failures(put: Put) -> None:
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


def test_unusable_command(tmp_path: Path) -> None:
    """A command that can't be run, as one for another processor, is an error."""
    file = tmp_path / "bin" / ("pulumi.exe" if os.name == "nt" else "pulumi")
    file.parent.mkdir()
    file.write_bytes(b"\x7fELF of another world")
    file.chmod(0o755)
    with pytest.raises(StackError, match="can't be started"):
        pulumi_cli.pulumi("version")


def test_killed_in_time(tmp_path: Path) -> None:
    """A command that hangs is killed in time, so that no create waits for it."""
    file = command(tmp_path / "bin" / "pulumi", "import time\ntime.sleep(60)\n")
    if os.name == "nt":  # the command is cmd itself: another process would outlive it
        file.write_text(":again\n@goto again\n")
    with pytest.raises(StackError, match=r"did not end within 0\.05 s"):
        pulumi_cli.pulumi("version", seconds=0.05)


# Which one it is.


def test_no_command() -> None:
    """Without `pulumi` on PATH or beside Python, the error says so."""
    with pytest.raises(StackError, match="there is no `pulumi` command"):
        pulumi_cli.pulumi("version")


def test_beside_python(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `pulumi` of a virtual environment is found although it is not activated."""
    put("beside")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert pulumi_cli.pulumi("version") == "beside\n"


@pytest.mark.parametrize("name", ["pulumi", "pulumi-3.259"])
def test_its_parent_comes_first(
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
def test_which_parent(
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
def test_nearest_project(tmp_path: Path, name: str) -> None:
    """The project file that is nearest above the folder counts."""
    program = tmp_path / "project" / "src" / "program"
    program.mkdir(parents=True)
    (tmp_path / "project" / "Pulumi.yaml").touch()
    assert pulumi_cli.project_file(program) == tmp_path / "project" / "Pulumi.yaml"
    (program / name).touch()
    assert pulumi_cli.project_file(program) == program / name


# Which backend it uses: a `pulumi whoami` that is made up says it.


class Whoami:
    """Answers as the command does."""

    def __init__(self) -> None:
        self.says: Any = {}
        self.calls = 0

    def __call__(self, *args: str, **others: Any) -> str:
        self.calls += 1
        assert args == ("whoami", "-v", "--json")
        return json.dumps(self.says)


@pytest.fixture
def whoami(monkeypatch: pytest.MonkeyPatch, project: Path) -> Whoami:
    whoami = Whoami()
    monkeypatch.setattr(pulumi_cli, "pulumi", whoami)
    return whoami


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project's folder. This process runs in its program's."""
    project = tmp_path / "project"
    (project / "program").mkdir(parents=True)
    (project / "Pulumi.yaml").touch()
    monkeypatch.chdir(project / "program")
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONSOLE_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
    return project


def url_of(folder: Path) -> str:
    """The URL of a folder, as every process writes it."""
    return f"file://{Path(os.path.realpath(folder)).as_posix()}"


@pytest.mark.parametrize(
    "url, used",
    [
        ("s3://bucket", "s3://bucket"),
        ("gs://bucket/folder/", "gs://bucket/folder"),
        ("s3://b?region=eu-west-1", "s3://b?region=eu-west-1"),
        ("postgres://me:s3cr3t@host/db", "postgres://host/db"),
        ("https://pulumi.acme.com/", "https://pulumi.acme.com"),
    ],
)
def test_used_backend(whoami: Whoami, monkeypatch: pytest.MonkeyPatch, url: str, used: str) -> None:
    """What the environment names is not asked. What is no URL there is left to the command."""
    for given in ("", "acme"):
        monkeypatch.setenv("PULUMI_BACKEND_URL", given)
        whoami.says = {"user": "me", "url": url}
        if not url.startswith("https"):  # of which the command says the console
            assert cache.used_backend() == used
    whoami.calls = 0
    monkeypatch.setenv("PULUMI_BACKEND_URL", url)
    assert cache.used_backend() == used
    assert whoami.calls == 0


@pytest.mark.parametrize("says", [{}, [], None, "x"])
def test_no_backend(whoami: Whoami, says: Any) -> None:
    """An answer without a URL is refused, and not taken for the name of a backend."""
    whoami.says = says
    with pytest.raises(StackError, match="did not print a backend's URL"):
        cache.used_backend()


# Folders.


def test_one_folder(tmp_path: Path) -> None:
    """Links, dots, slashes and options make no other backend of a folder."""
    (tmp_path / "states").mkdir()
    paths = ["states", "states/", "project/../states", "states?metadata=skip"]
    if os.name != "nt":  # not everybody may make links on Windows
        (tmp_path / "link").symlink_to(tmp_path / "states")
        paths.append("link")
    for path in paths:
        for scheme in ("file://", "file:", "FILE://"):
            assert cache.place(f"{scheme}{tmp_path}/{path}") == url_of(tmp_path / "states")


@pytest.mark.parametrize("is_named", [True, False], ids=["an account", "a user id alone"])
def test_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool) -> None:
    """It is the account's folder for `pulumi`, and $HOME only where the account has no name."""
    home = Path.home()
    if os.name != "nt":
        import pwd

        account = pwd.getpwuid(os.getuid())
        home = Path(account.pw_dir) if is_named else tmp_path
        answers = {os.getuid(): account} if is_named else {}
        monkeypatch.setattr(pwd, "getpwuid", answers.__getitem__)
    monkeypatch.setenv("HOME", str(tmp_path))
    for url, path in {"~": "", "~/": "", "~/states": "/states", "~/a/../b": "/b"}.items():
        assert cache.place(f"file://{url}") == f"{url_of(home)}{path}"


@pytest.mark.parametrize("is_given", [True, False])
def test_relative_urls(
    whoami: Whoami, project: Path, monkeypatch: pytest.MonkeyPatch, is_given: bool
) -> None:
    """Where there are no stacks, the command was run elsewhere, and the backend is unknown."""
    whoami.says = {"url": "file://./states"}
    if is_given:
        monkeypatch.setenv("PULUMI_BACKEND_URL", "file://./states")
    assert cache.used_backend() == ""
    (project / "states" / ".pulumi").mkdir(parents=True)
    assert cache.used_backend() == url_of(project / "states")


# Pulumi Cloud, of which `pulumi whoami` says its console, or nothing.


@pytest.mark.parametrize(
    "says, domain, url",
    [
        ("https://app.pulumi.com/me", "", "https://api.pulumi.com"),
        ("https://app.pulumi.com", "", "https://api.pulumi.com"),
        ("http://app.pulumi.acme.com:8080/me", "", "http://api.pulumi.acme.com:8080"),
        ("https://app.acme.com/me", "app.acme.com", ""),
        ("https://console.acme.com/app.me", "", ""),
        ("http://localhost:3000/me", "", ""),
        ("", "", ""),
    ],
)
def test_pulumi_cloud(
    whoami: Whoami, monkeypatch: pytest.MonkeyPatch, says: str, domain: str, url: str
) -> None:
    """The console is at app.HOST if the API is at api.HOST. A wrong address is worse than none."""
    whoami.says = {"url": says}
    monkeypatch.setenv("PULUMI_CONSOLE_DOMAIN", domain)
    assert cache.used_backend() == url
