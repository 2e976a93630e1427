"""Finds out which backend the `pulumi` command uses here, as a place where others can look.

PULUMI_BACKEND_URL comes before anything else in the command; if it is not set, `pulumi whoami` is
asked. The URL says where stacks can be read. It does not say which stack one is: one backend can be
written in many ways.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from pulumi_fal.errors import StackError
from pulumi_fal.stacks import cli
from pulumi_fal.stacks.origin import without_user

_FILE = "file:"


def used() -> str:
    """Return the URL of the backend, as `place` does; "" if Pulumi Cloud's API is unknown.

    Raises StackError if `pulumi` names no backend, for example because nobody is logged in.
    """
    given = os.environ.get("PULUMI_BACKEND_URL", "")
    return place(given if "://" in given else _asked())


def _asked() -> str:
    """Return the URL that `pulumi` says, which takes a tenth of a second or a call to the cloud.

    Of Pulumi Cloud it prints the console, which is app.HOST if the API is api.HOST, or nothing.
    """
    said = cli.ask("whoami", "-v", "--json")
    try:
        url = str(said["url"])
    except (KeyError, TypeError):
        raise StackError("`pulumi whoami` did not print a backend's URL") from None
    if not url.startswith("http"):
        return url
    console = urlsplit(url)
    is_known = console.netloc.startswith("app.") and not os.environ.get("PULUMI_CONSOLE_DOMAIN")
    return f"{console.scheme}://api.{console.netloc.removeprefix('app.')}" if is_known else ""


def place(url: str) -> str:
    """Return a backend's URL as it is recorded and shown: absolute, without user and password.

    Returns "" for a relative URL if it is not known from which folder it counts.
    """
    if url.lower().startswith(_FILE):
        path = _path(url)
        if not path.is_absolute():
            # It counts from the folder that the command was run in, which a plugin is not told.
            path = cli.folder() / path
            if not (path / ".pulumi").is_dir():
                return ""
        return f"file://{Path(os.path.realpath(path)).as_posix()}"  # `pulumi` takes no backslash
    return without_user(url)


def _path(url: str) -> Path:
    """Return the path of a file URL. On Windows, file://C:/x and file:///C:/x are equal."""
    rest = url[len(_FILE) :].removeprefix("//").partition("?")[0]
    if rest.startswith("~"):
        return _account_home() / rest[2:]  # `pulumi` knows no ~user
    without_slash = Path(rest.removeprefix("/"))
    return without_slash if without_slash.drive else Path(rest)


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
