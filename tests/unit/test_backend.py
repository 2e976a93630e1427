"""Which backend `pulumi` uses here, by what a `pulumi whoami` that is made up says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal import backend, pulumi_cli
from pulumi_fal.errors import StackError


class Whoami:
    """Answers as the command does; `folders` are those that it ran in."""

    def __init__(self) -> None:
        self.says: Any = {}
        self.folders: list[Path | None] = []

    def __call__(self, *args: str, folder: Path | None = None, **others: Any) -> str:
        assert args == ("whoami", "-v", "--json")
        self.folders.append(folder)
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
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CREDENTIALS_PATH", "PULUMI_API"):
        monkeypatch.delenv(name, raising=False)
    see(monkeypatch, None)
    return project


def see(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    monkeypatch.setattr(pulumi_cli, "folder", lambda: folder)


def lock(folder: Path, stack: str = "dev", project: str = "shop") -> Path:
    locks = folder / ".pulumi" / "locks" / "organization" / project / stack
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "1.json").touch()
    return locks / "1.json"


@pytest.mark.parametrize("url", ["s3://bucket", "gs://bucket/folder/", "azblob://b?a=c"])
def test_the_backend_is_the_one_that_the_command_says(whoami: Whoami, url: str) -> None:
    """The command has asked environment, project and login, and a slash at its end is cut."""
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
    (tmp_path / "link").symlink_to(tmp_path / "states")
    expected = f"file://{os.path.realpath(tmp_path / 'states')}"
    for path in ("states", "states/", "link", "project/../states"):
        assert backend.absolute(f"file://{tmp_path}/{path}", None) == expected


def test_a_home_folder_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde stands for the home folder, as `pulumi login --local` writes it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert backend.absolute("file://~", None) == f"file://{os.path.realpath(tmp_path)}"


def test_a_relative_url_counts_from_where_the_cli_runs(
    whoami: Whoami, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative URL stays as it is where the CLI's folder can't be seen."""
    whoami.says = {"url": "file://./states"}
    assert backend.used() == "file://./states"
    see(monkeypatch, tmp_path)
    assert backend.used() == f"file://{os.path.realpath(tmp_path / 'states')}"


# Pulumi Cloud, of which `pulumi whoami` says its website, or nothing.


@pytest.mark.parametrize("says", ["https://app.pulumi.com/me", "https://console.acme.com/me", ""])
def test_pulumi_cloud_is_known_by_its_api(
    whoami: Whoami, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """Environment, project, login and default name Pulumi Cloud's API, whoever is logged in."""
    whoami.says = {"url": says}
    assert backend.used() == "https://api.pulumi.com"
    monkeypatch.setenv("PULUMI_API", "https://api.variable")
    assert backend.used() == "https://api.variable"
    login(tmp_path / "home", "https://api.login/")
    assert backend.used() == "https://api.login"
    (project / "Pulumi.yaml").write_text("backend:\n  url: https://api.project\n")
    assert backend.used() == "https://api.project"
    monkeypatch.setenv("PULUMI_BACKEND_URL", "https://api.environment/")
    assert backend.used() == "https://api.environment"


def test_credentials_have_a_path_of_their_own(
    whoami: Whoami, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PULUMI_CREDENTIALS_PATH counts before PULUMI_HOME."""
    whoami.says = {"url": ""}
    login(tmp_path / "home", "https://api.home")
    login(tmp_path / "credentials", "https://api.credentials")
    monkeypatch.setenv("PULUMI_CREDENTIALS_PATH", str(tmp_path / "credentials"))
    assert backend.used() == "https://api.credentials"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"current": null}', "no JSON"])
def test_credentials_that_name_no_cloud_are_passed_by(
    whoami: Whoami, tmp_path: Path, text: str
) -> None:
    """An access token alone leads to the default address."""
    whoami.says = {"url": "https://app.pulumi.com/me"}
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "credentials.json").write_text(text)
    assert backend.used() == "https://api.pulumi.com"


def login(home: Path, url: str) -> None:
    home.mkdir(exist_ok=True)
    (home / "credentials.json").write_text(json.dumps({"current": url}))


# A relative URL where the CLI's folder is not seen.


@pytest.mark.parametrize("where", ["project", "project/program", "started"])
def test_a_relative_url_is_found_by_the_stacks_lock(tmp_path: Path, where: str) -> None:
    """The folder of the project, of the program or of the shell has the stack's lock."""
    (tmp_path / where).mkdir(exist_ok=True)
    assert backend.locked("file://.", "dev", "shop") == ""
    lock(tmp_path / where)
    assert backend.locked("file://.", "dev", "shop") == (
        f"file://{os.path.realpath(tmp_path / where)}"
    )


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
