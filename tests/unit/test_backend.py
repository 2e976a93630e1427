"""Which backend `pulumi` uses here, by what a `pulumi whoami` that is made up says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.errors import StackError
from pulumi_fal.stacks import cache
from pulumi_fal.stacks import cli as pulumi_cli


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
def whoami(monkeypatch: pytest.MonkeyPatch) -> Whoami:
    whoami = Whoami()
    monkeypatch.setattr(pulumi_cli, "pulumi", whoami)
    return whoami


@pytest.fixture(autouse=True)
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
def test_the_backend_is_told_without_a_password(
    whoami: Whoami, monkeypatch: pytest.MonkeyPatch, url: str, used: str
) -> None:
    """What the environment names is not asked, which may take a call to Pulumi Cloud."""
    if not url.startswith("https"):  # of which the command says the console
        whoami.says = {"user": "me", "url": url}
        assert cache.used_backend() == used
        whoami.calls = 0
    monkeypatch.setenv("PULUMI_BACKEND_URL", url)
    assert cache.used_backend() == used
    assert whoami.calls == 0


@pytest.mark.parametrize("given", ["", "acme"])
def test_what_is_no_url_is_left_to_the_command(
    whoami: Whoami, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """What it makes of such a value is its own matter."""
    whoami.says = {"url": "s3://bucket"}
    monkeypatch.setenv("PULUMI_BACKEND_URL", given)
    assert cache.used_backend() == "s3://bucket"


@pytest.mark.parametrize("says", [{}, [], None, "x"])
def test_what_names_no_backend_is_refused(whoami: Whoami, says: Any) -> None:
    """An answer without a URL is refused, and not taken for the name of a backend."""
    whoami.says = says
    with pytest.raises(StackError, match="did not print a backend's URL"):
        cache.used_backend()


# Folders.


def test_one_folder_is_one_backend_however_it_is_written(tmp_path: Path) -> None:
    """Links, dots, slashes and options make no other backend of a folder."""
    (tmp_path / "states").mkdir()
    paths = ["states", "states/", "project/../states", "states?metadata=skip"]
    if os.name != "nt":  # not everybody may make links on Windows
        (tmp_path / "link").symlink_to(tmp_path / "states")
        paths.append("link")
    for path in paths:
        for scheme in ("file://", "file:", "FILE://"):
            assert cache.place(f"{scheme}{tmp_path}/{path}") == url_of(tmp_path / "states")


@pytest.mark.parametrize(
    "url, path", [("~", ""), ("~/", ""), ("~/states", "/states"), ("~/a/../b", "/b")]
)
def test_the_home_folder_of_the_account_is_meant_by_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, path: str
) -> None:
    """`pulumi` ignores $HOME, which `sudo` and containers may set to another folder."""
    if os.name == "nt":
        home = Path.home()
    else:
        import pwd

        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.place(f"file://{url}") == f"{url_of(home)}{path}"


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
    assert cache.place("file://~") == url_of(tmp_path)


@pytest.mark.parametrize("is_given", [True, False])
def test_a_relative_url_counts_from_the_projects_folder(
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
def test_pulumi_cloud_is_known_by_its_console(
    whoami: Whoami, monkeypatch: pytest.MonkeyPatch, says: str, domain: str, url: str
) -> None:
    """The console is at app.HOST if the API is at api.HOST. A wrong address is worse than none."""
    whoami.says = {"url": says}
    monkeypatch.setenv("PULUMI_CONSOLE_DOMAIN", domain)
    assert cache.used_backend() == url
