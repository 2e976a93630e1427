"""Which backend `pulumi` uses here, by what a `pulumi whoami` that is made up says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.errors import StackError
from pulumi_fal.stacks import backend
from pulumi_fal.stacks import cli as pulumi_cli


class Whoami:
    """Answers as the command does; `folders` are those that it ran in.

    `about` is what `pulumi about` prints.
    """

    def __init__(self) -> None:
        self.says: Any = {}
        self.about: Any = {"backend": None, "errors": ["..."]}
        self.folders: list[Path | None] = []

    def __call__(self, *args: str, folder: Path | None = None, **others: Any) -> str:
        self.folders.append(folder)
        if args == ("about", "--json"):
            return json.dumps(self.about)
        assert args == ("whoami", "-v", "--json")
        return json.dumps(self.says)


@pytest.fixture
def whoami(monkeypatch: pytest.MonkeyPatch) -> Whoami:
    whoami = Whoami()
    monkeypatch.setattr(pulumi_cli, "pulumi", whoami)
    return whoami


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project's folder. This process runs in its program's, and no CLI is seen above it."""
    project = tmp_path / "project"
    (project / "program").mkdir(parents=True)
    (project / "Pulumi.yaml").touch()
    monkeypatch.chdir(project / "program")
    monkeypatch.setenv("PWD", str(tmp_path / "started"))
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONSOLE_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
    see(monkeypatch, None)
    return project


def url_of(folder: Path) -> str:
    """The URL of a folder, as every process writes it."""
    return f"file://{Path(os.path.realpath(folder)).as_posix()}"


def account_home() -> Path:
    """The home folder of the account, whatever the environment says."""
    if os.name == "nt":
        return Path.home()
    import pwd

    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def see(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    monkeypatch.setattr(pulumi_cli, "folder", lambda: folder)


def lock(folder: Path, stack: str = "dev", project: str = "shop") -> Path:
    locks = folder / ".pulumi" / "locks" / "organization" / project / stack
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "1.json").touch()
    return locks / "1.json"


@pytest.mark.parametrize("url", ["s3://bucket", "gs://bucket/folder/", "azblob://b?a=c"])
def test_the_backend_is_the_one_that_the_command_says(whoami: Whoami, url: str) -> None:
    """The command has asked project and login, and a slash at the end is cut."""
    whoami.says = {"user": "me", "url": url}
    assert backend.used() == url.rstrip("/")


def test_it_is_asked_where_the_cli_runs_else_in_the_projects_folder(
    whoami: Whoami, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder may have another project, and without one the process's own is used."""
    whoami.says = {"url": "s3://bucket"}
    backend.used()
    (project / "Pulumi.yaml").unlink()
    backend.used()
    see(monkeypatch, tmp_path)
    backend.used()
    assert whoami.folders == [project, project / "program", tmp_path]


@pytest.mark.parametrize("says", [{}, [], None, "x"])
def test_what_names_no_backend_is_refused(whoami: Whoami, says: Any) -> None:
    """An answer without a URL is refused, and not taken for the name of a backend."""
    whoami.says = says
    with pytest.raises(StackError, match="did not print a backend's URL"):
        backend.used()


def test_one_folder_is_one_backend_however_it_is_written(tmp_path: Path) -> None:
    """Links, dots and slashes make no other backend of a folder."""
    (tmp_path / "states").mkdir()
    paths = ["states", "states/", "project/../states"]
    if os.name != "nt":  # not everybody may make links on Windows
        (tmp_path / "link").symlink_to(tmp_path / "states")
        paths.append("link")
    for path in paths:
        assert backend.absolute(f"file://{tmp_path}/{path}", None) == url_of(tmp_path / "states")


@pytest.mark.parametrize(
    "url, path", [("~", ""), ("~/", ""), ("~/states", "/states"), ("~/a/../b", "/b")]
)
def test_the_home_folder_of_the_account_is_meant_by_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, path: str
) -> None:
    """`pulumi` ignores $HOME, which `sudo` and containers may set to another folder."""
    home = url_of(account_home())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert backend.absolute(f"file://{url}", None) == f"{home}{path}"


@pytest.mark.skipif(os.name == "nt", reason="an account of Windows always has a name")
def test_a_tilde_means_the_folder_of_the_environment_where_the_account_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may run with a user id that has no entry in /etc/passwd."""

    import pwd

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert backend.absolute("file://~", None) == url_of(tmp_path)


def test_a_relative_url_counts_from_where_the_cli_runs(
    whoami: Whoami, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative URL stays as it is where the CLI's folder can't be seen."""
    whoami.says = {"url": "file://./states"}
    assert backend.used() == "file://./states"
    see(monkeypatch, tmp_path)
    assert backend.used() == url_of(tmp_path / "states")


# Pulumi Cloud, of which `pulumi whoami` says its console, or nothing.


@pytest.mark.parametrize(
    "says, url",
    [
        ("https://app.pulumi.com/me", "https://api.pulumi.com"),
        ("https://app.pulumi.com", "https://api.pulumi.com"),
        ("http://app.pulumi.acme.com:8080/me", "http://api.pulumi.acme.com:8080"),
    ],
)
def test_pulumi_cloud_is_known_by_its_console(whoami: Whoami, says: str, url: str) -> None:
    """The console is at app.HOST if the API is at api.HOST, so no second command is needed."""
    whoami.says = {"url": says}
    assert backend.used() == url
    assert len(whoami.folders) == 1


@pytest.mark.parametrize(
    "says", ["https://console.acme.com/app.me", "http://localhost:3000/me", ""]
)
@pytest.mark.parametrize(
    "name, url",
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://pulumi.acme.com/", "https://pulumi.acme.com"),
        ("pulumi.com", "https://api.pulumi.com"),
        ("state", ""),
    ],
)
def test_where_the_console_is_elsewhere_pulumi_about_names_the_api(
    whoami: Whoami, project: Path, says: str, name: str, url: str
) -> None:
    """`pulumi about` is run in the same folder, because the project may name another backend."""
    whoami.says, whoami.about = {"url": says}, {"backend": {"name": name}}
    assert backend.used() == url
    assert whoami.folders == [project, project]


@pytest.mark.parametrize("about", [{}, {"backend": None}, {"backend": {}}, [], None])
def test_a_pulumi_cloud_without_a_name_is_unknown(whoami: Whoami, about: Any) -> None:
    """A wrong address is worse than none."""
    whoami.says, whoami.about = {"url": ""}, about
    assert backend.used() == ""


def test_a_console_of_another_name_tells_nothing(
    whoami: Whoami, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a console may begin like that of any other host."""
    whoami.says = {"url": "https://app.acme.com/me"}
    whoami.about = {"backend": {"name": "https://pulumi.acme.com"}}
    monkeypatch.setenv("PULUMI_CONSOLE_DOMAIN", "app.acme.com")
    assert backend.used() == "https://pulumi.acme.com"


# The environment, which `pulumi` takes before anything else.


@pytest.mark.parametrize(
    "given", ["https://pulumi.acme.com/", "s3://bucket?region=eu-west-1", "postgres://me@host/db"]
)
def test_what_the_environment_names_is_not_asked(
    whoami: Whoami, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """The command would only print it, after a call to Pulumi Cloud where it is that."""
    monkeypatch.setenv("PULUMI_BACKEND_URL", given)
    assert backend.used() == given.rstrip("/")
    assert whoami.folders == []


def test_a_relative_url_in_the_environment_counts_from_where_the_cli_runs(
    whoami: Whoami, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays as it is where the CLI's folder can't be seen."""
    monkeypatch.setenv("PULUMI_BACKEND_URL", "file://./states")
    assert backend.used() == "file://./states"
    see(monkeypatch, tmp_path)
    assert backend.used() == url_of(tmp_path / "states")
    assert whoami.folders == []


@pytest.mark.parametrize("given", ["", "acme"])
def test_what_is_no_url_is_left_to_the_command(
    whoami: Whoami, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """What it makes of such a value is its own matter."""
    whoami.says = {"url": "s3://bucket"}
    monkeypatch.setenv("PULUMI_BACKEND_URL", given)
    assert backend.used() == "s3://bucket"


# A relative URL where the CLI's folder is not seen.


@pytest.mark.parametrize("where", ["project", "project/program", "started"])
def test_a_relative_url_is_found_by_the_stacks_lock(tmp_path: Path, where: str) -> None:
    """The folder of the project, of the program or of the shell has the stack's lock."""
    (tmp_path / where).mkdir(exist_ok=True)
    assert backend.locked("file://.", "dev", "shop") == ""
    lock(tmp_path / where)
    assert backend.locked("file://.", "dev", "shop") == url_of(tmp_path / where)


def test_another_stacks_lock_is_not_its_own(project: Path) -> None:
    """Neither another stack's lock nor an empty folder of locks is this stack's."""
    lock(project, stack="prod")
    lock(project, project="bank")
    lock(project).unlink()
    assert backend.locked("file://.", "dev", "shop") == ""
    assert backend.locked("file://.", "", "") == ""


def test_where_two_folders_have_the_lock_none_is_meant(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folders with the lock give no answer, unless they are one folder."""
    lock(project)
    monkeypatch.setenv("PWD", str(project))
    assert backend.locked("file://.", "dev", "shop") != ""
    lock(project / "program")
    assert backend.locked("file://.", "dev", "shop") == ""
