"""Which backend the `pulumi` command uses here.

The engine doesn't tell a plugin, so the command is asked. What it says is verbatim: a relative
file URL counts from the folder that the CLI runs in, which need not be the plugin's.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from pulumi_fal import pulumi_cli
from pulumi_fal.errors import StackError

_FILE = "file://"


def used() -> str:
    """The URL of the backend; relative if it is so and the CLI's folder is not known.

    "" for a Pulumi Cloud whose API's address is unknown. StackError where the command names no
    backend, for example because nobody is logged in.
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
        url = _cloud(url)
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


def _cloud(console: str) -> str:
    """The address of Pulumi Cloud's API, by that of its console, which `pulumi whoami` prints.

    `pulumi` itself takes app.HOST for the console of api.HOST. For an API of another name it
    prints nothing, or the address that PULUMI_CONSOLE_DOMAIN gives: neither leads to the API.
    """
    given = os.environ.get("PULUMI_BACKEND_URL", "")
    if given.startswith("http"):
        return given
    url = urlsplit(console)
    if not url.netloc.startswith("app.") or os.environ.get("PULUMI_CONSOLE_DOMAIN"):
        return ""
    return f"{url.scheme}://api.{url.netloc.removeprefix('app.')}"
