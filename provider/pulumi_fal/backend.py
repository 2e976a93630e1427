"""Which backend the `pulumi` command uses here.

The engine doesn't tell a plugin, so the command is asked. What it says is verbatim: a relative
file URL counts from the folder that the CLI runs in, which need not be the plugin's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pulumi_fal import pulumi_cli
from pulumi_fal.errors import StackError

_FILE = "file://"
_CLOUD = "https://api.pulumi.com"
"""Where the command goes when nothing names a backend, and an access token is set."""


def used() -> str:
    """The URL of the backend; relative if it is so and the CLI's folder is not known.

    StackError where the command can't say, as where nobody is logged in.
    """
    cli_folder = pulumi_cli.folder()
    project = pulumi_cli.project_file(Path.cwd())
    folder = cli_folder or (project.parent if project else Path.cwd())
    said = pulumi_cli.ask("whoami", "-v", "--json", folder=folder)
    try:
        url = str(said["url"])
    except (KeyError, TypeError):
        raise StackError("`pulumi whoami` did not print a backend's URL") from None
    if not url or url.startswith("http"):
        # Of Pulumi Cloud it says the address of the website, with the user's name, or nothing.
        url = _cloud(os.environ, folder)
    return absolute(url, cli_folder) or url


def absolute(url: str, folder: Path | None) -> str:
    """The URL as it is the same everywhere: a folder by its real and full path.

    A relative file URL counts from `folder`; where that is None, it is "".
    """
    if not url.startswith(_FILE):
        return url.rstrip("/")
    path = _path(url).expanduser()
    if not path.is_absolute():
        if folder is None:
            return ""
        path = folder / path
    # `pulumi` takes no backslash in a URL.
    return f"{_FILE}{Path(os.path.realpath(path)).as_posix()}"


def _path(url: str) -> Path:
    """The path in a file URL. On Windows both file://C:/states and file:///C:/states have one."""
    path = Path(url.removeprefix(_FILE))
    without_slash = Path(url.removeprefix(f"{_FILE}/"))
    return without_slash if without_slash.drive else path


def locked(url: str, stack: str, project: str) -> str:
    """The backend that a relative file URL means: the one that holds a lock of the stack now.

    A file backend has it while any command but a preview runs. "" where none has one, or several.
    """
    file = pulumi_cli.project_file(Path.cwd())
    folders = [Path.cwd(), Path(os.environ.get("PWD", os.curdir)).absolute()]
    if file is not None:
        folders.append(file.parent)
    urls = {absolute(url, folder) for folder in folders}
    found = [each for each in urls if _holds_lock(each, stack, project)]
    return found[0] if len(found) == 1 else ""


def _holds_lock(url: str, stack: str, project: str) -> bool:
    locks = _path(url) / ".pulumi" / "locks" / "organization" / project / stack
    return any(locks.glob("*.json"))


def _cloud(environ: Mapping[str, str], folder: Path) -> str:
    """The address of Pulumi Cloud, or of one's own: environment, project, login, default."""
    return (
        environ.get("PULUMI_BACKEND_URL")
        or _of_project(folder)
        or _of_login(environ)
        or environ.get("PULUMI_API")
        or _CLOUD
    )


def _of_project(folder: Path) -> str:
    file = pulumi_cli.project_file(folder)
    if file is None:
        return ""
    import yaml  # pulumi's own dependency; JSON is YAML as well

    project = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return str((project.get("backend") or {}).get("url") or "")


def _of_login(environ: Mapping[str, str]) -> str:
    folder = environ.get("PULUMI_CREDENTIALS_PATH") or environ.get("PULUMI_HOME")
    path = Path(folder or Path.home() / ".pulumi") / "credentials.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("current") or "")
    except (OSError, ValueError, AttributeError):
        return ""
