"""Finds out which backend the `pulumi` command uses here.

The engine doesn't tell a plugin. PULUMI_BACKEND_URL comes before anything else in the command; if
it is not set, `pulumi whoami` is asked. Both have a file URL as a person wrote it: a relative one
counts from the folder that the CLI runs in, which may not be the plugin's.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from pulumi_fal.errors import StackError
from pulumi_fal.stacks import cli

_FILE = "file://"


def used() -> str:
    """Return the URL of the backend. It stays relative if the CLI's folder is unknown.

    Raises StackError if `pulumi` names no backend, for example because nobody is logged in.
    """
    cli_folder = cli.folder()
    given = os.environ.get("PULUMI_BACKEND_URL", "")
    url = given if "://" in given else _asked(cli_folder)
    return absolute(url, cli_folder) or url


def _asked(cli_folder: Path | None) -> str:
    """Return the URL that `pulumi` says, which takes a tenth of a second or a call to the cloud."""
    project = cli.project_file(Path.cwd())
    folder = cli_folder or (project.parent if project else Path.cwd())
    said = cli.ask("whoami", "-v", "--json", folder=folder)
    try:
        url = str(said["url"])
    except (KeyError, TypeError):
        raise StackError("`pulumi whoami` did not print a backend's URL") from None
    return _cloud(url, folder) if not url or url.startswith("http") else url


def absolute(url: str, folder: Path | None) -> str:
    """Return a URL that is the same for every process: a folder has its real, full path.

    A relative file URL counts from `folder`. It becomes "" if that is None.
    """
    if not url.startswith(_FILE):
        return url.rstrip("/")
    path = _path(url)
    if not path.is_absolute():
        if folder is None:
            return ""
        path = folder / path
    # `pulumi` takes no backslash in a URL.
    return f"{_FILE}{Path(os.path.realpath(path)).as_posix()}"


def _path(url: str) -> Path:
    """Return the path of a file URL. On Windows, file://C:/x and file:///C:/x are equal."""
    rest = url.removeprefix(_FILE)
    if rest.startswith("~"):
        return _account_home() / rest[2:]  # `pulumi` knows no ~user
    path = Path(rest)
    without_slash = Path(url.removeprefix(f"{_FILE}/"))
    return without_slash if without_slash.drive else path


def _account_home() -> Path:
    """Return the home folder of the account, as `pulumi` does, which ignores $HOME.

    With `sudo`, and in containers, $HOME may be another folder.
    """
    try:
        import pwd
    except ImportError:  # Windows
        return Path.home()
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # the account has no name, as in some containers
        return Path.home()


def locked(url: str, stack: str, project: str) -> str:
    """Return the backend that a relative file URL means: the one where the stack is locked now.

    A file backend locks a stack while any command except a preview runs. Returns "" if the stack
    is locked in none of the possible folders, or in several.
    """
    file = cli.project_file(Path.cwd())
    folders = [Path.cwd(), Path(os.environ.get("PWD", os.curdir)).absolute()]
    if file is not None:
        folders.append(file.parent)
    urls = {absolute(url, folder) for folder in folders}
    found = [candidate for candidate in urls if _holds_lock(candidate, stack, project)]
    return found[0] if len(found) == 1 else ""


def _holds_lock(url: str, stack: str, project: str) -> bool:
    locks = _path(url) / ".pulumi" / "locks" / "organization" / project / stack
    return any(locks.glob("*.json"))


def _cloud(console: str, folder: Path) -> str:
    """Return the address of Pulumi Cloud's API, which is "" if it is unknown.

    `pulumi whoami` prints the address of the console, which is app.HOST if the API is api.HOST.
    For any other host it prints nothing, or the address from PULUMI_CONSOLE_DOMAIN. `pulumi about`
    takes longer, and names the API.
    """
    url = urlsplit(console)
    if url.netloc.startswith("app.") and not os.environ.get("PULUMI_CONSOLE_DOMAIN"):
        return f"{url.scheme}://api.{url.netloc.removeprefix('app.')}"
    about = cli.ask("about", "--json", folder=folder)
    try:
        name = str(about["backend"]["name"])
    except (KeyError, TypeError):
        return ""
    if name == "pulumi.com":
        return "https://api.pulumi.com"
    return name if name.startswith("http") else ""
