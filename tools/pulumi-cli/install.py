#!/usr/bin/env python3
"""Puts a working `pulumi` into a virtual environment: install.py VENV_BIN [VERSION]

A folder for each VERSION has its go.mod. Without one, it uses the first of these that is available:

1. an installed `pulumi` that has its Python language host,
2. the copy that an earlier run left in the user's cache folder,
3. the official bundle, checked against the checksums published with the release,
4. a build from Pulumi's Go modules, for computers that can't download the bundle.

A build has only our own host of Python. Where Pulumi's language hosts are on PATH, built from its
source for example, a folder beside VENV_BIN gets them and that `pulumi`, and is used instead.

VENV_BIN gets a short script that starts `pulumi` with VENV_BIN first on PATH. Programs and dynamic
providers then run with that environment's Python, and nothing needs to be activated.
"""

import contextlib
import hashlib
import io
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PINNED = "v3.276.0"
ASKED_FOR = sys.argv[2] if __name__ == "__main__" and sys.argv[2:] else None
VERSION = ASKED_FOR or PINNED
BUNDLE = "https://get.pulumi.com/releases/sdk/pulumi-{version}-{system}-{machine}.tar.gz"
CHECKSUMS = (
    "https://github.com/pulumi/pulumi/releases/download/{version}/pulumi-{number}-checksums.txt"
)
SECONDS_TO_CONNECT = 5
SECONDS_BETWEEN_SIGNS = 15
HERE = Path(__file__).resolve().parent
MODULES = HERE / VERSION
LANGUAGE_HOST = "pulumi-language-python"
PARTS = ("pulumi-language-*", "pulumi-resource-pulumi-*", "pulumi-analyzer-*")
"""The names of language hosts and of what is installed beside them."""
FROM_THE_SDK_MODULE = (
    "python/dist/pulumi-resource-pulumi-python",
    "python/cmd/pulumi-language-python-exec",
)


class Unavailable(Exception):
    """The reason why one way of getting `pulumi` doesn't work on this computer."""


def say(message: str) -> None:
    print(f"pulumi: {message}", flush=True)


@contextlib.contextmanager
def step(what: str, expected: str) -> Iterator[None]:
    """Say what begins and how long it takes, then that it still runs, then how long it took."""
    say(f"{what}: {expected} ...")
    start = time.monotonic()
    ended = threading.Event()

    def keep_saying() -> None:
        while not ended.wait(SECONDS_BETWEEN_SIGNS):
            say(f"{what}: {time.monotonic() - start:.0f} s so far")

    signs = threading.Thread(target=keep_saying, daemon=True)
    signs.start()
    try:
        yield
    finally:
        ended.set()
        signs.join()
    say(f"{what}: {time.monotonic() - start:.1f} s")


def version_of(pulumi: Path) -> str | None:
    """The output of `pulumi version`, or None if it doesn't work."""
    try:
        answer = subprocess.run(
            [pulumi, "version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "1"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


# 1. An installed `pulumi`


def installed(path: str, own: Path) -> Path | None:
    """The first `pulumi` on `path` that works, is asked for, and has its Python language host."""
    for folder in map(Path, filter(None, path.split(os.pathsep))):
        pulumi = folder / "pulumi"
        if not pulumi.is_file() or folder.resolve() == own.resolve():
            continue
        has_host = (pulumi.resolve().parent / LANGUAGE_HOST).is_file() or shutil.which(
            LANGUAGE_HOST, path=path
        )
        found = version_of(pulumi) if has_host else None
        if found and ASKED_FOR in (None, found):
            return pulumi
    return None


# 2. The cache


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    system, machine = system_and_machine()
    return Path(base) / "pulumi-fal" / "pulumi-cli" / f"{VERSION}-{system}-{machine}"


def system_and_machine() -> tuple[str, str]:
    """The system and the machine, as in the names of Pulumi's bundles."""
    machine = platform.machine().lower()
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(machine, machine)
    return platform.system().lower(), machine


@contextlib.contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A new folder that replaces `folder` in one step, so that nobody sees it half full."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as temporary:
        new = Path(temporary) / "content"
        new.mkdir()
        yield new
        if not version_of(new / "pulumi"):
            raise Unavailable(f"the resulting pulumi doesn't run on this {platform.machine()}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(Path(temporary) / "old")
        # Another clone may have been faster; its copy is just as good.
        with contextlib.suppress(OSError):
            new.rename(folder)


def write_executable(path: Path, content: bytes) -> None:
    """Write the file in one step: another clone may be running it, or writing it too."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return
    new = path.with_name(f".{path.name}-{os.getpid()}")
    new.write_bytes(content)
    new.chmod(0o755)
    new.replace(path)


# 3. The official bundle


def download(url: str) -> bytes:
    try:
        # S310: both addresses are constants and https.
        with urllib.request.urlopen(url, timeout=SECONDS_TO_CONNECT) as response:  # noqa: S310
            return bytes(response.read())
    except OSError as error:
        raise Unavailable(
            f"{url} can't be downloaded: {getattr(error, 'reason', error)}"
        ) from error


def checked(archive: bytes, name: str, checksums: str) -> bytes:
    """The archive, if its checksum is the one that Pulumi published."""
    published = {line.split()[1].lstrip("*"): line.split()[0] for line in checksums.splitlines()}
    if published.get(name) != hashlib.sha256(archive).hexdigest():
        raise Unavailable(f"{name} is not what its published checksum says, and was discarded")
    return archive


def unpack(archive: bytes, folder: Path) -> None:
    """Unpack only regular files, all into one folder, so that no entry can point outside."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as bundle:
        for member in bundle:
            content = bundle.extractfile(member) if member.isfile() else None
            if content is not None:
                write_executable(folder / PurePosixPath(member.name).name, content.read())


def fetch_bundle(folder: Path) -> None:
    system, machine = system_and_machine()
    url = BUNDLE.format(version=VERSION, system=system, machine=machine)
    # The small file first: if it is not available, nothing large is downloaded in vain.
    checksums = download(CHECKSUMS.format(version=VERSION, number=VERSION[1:])).decode()
    with filling(folder) as new:
        unpack(checked(download(url), url.rpartition("/")[2], checksums), new)


# 4. The Go modules


def build(folder: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise Unavailable("Go is not on PATH")
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",  # needs no C compiler, and runs on every libc
        "GOFLAGS": "",
        "GOWORK": "off",
    }

    def run(*arguments: str) -> str:
        result = subprocess.run(
            [go, *arguments], cwd=MODULES, env=environment, stdout=subprocess.PIPE, text=True
        )
        if result.returncode:
            raise Unavailable(f"'go {arguments[0]}' failed; see its output above")
        return result.stdout.strip()

    stamp = f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={VERSION}"
    with filling(folder) as new:
        run(
            "build",
            "-mod=readonly",
            "-buildvcs=false",
            "-trimpath",
            f"-ldflags=-s -w {stamp}",
            f"-o={new / 'pulumi'}",
            "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
        )
        sdk = Path(
            run("list", "-mod=readonly", "-m", "-f={{.Dir}}", "github.com/pulumi/pulumi/sdk/v3")
        )
        for script in FROM_THE_SDK_MODULE:
            write_executable(new / Path(script).name, (sdk / script).read_bytes())
        add_language_host(new)


def add_language_host(folder: Path) -> None:
    """Add or update our language host, unless the folder has the official one."""
    if not (folder / LANGUAGE_HOST).exists() or not is_official(folder):
        write_executable(folder / LANGUAGE_HOST, (HERE / LANGUAGE_HOST).read_bytes())


def is_official(folder: Path) -> bool:
    # The bundle has the hosts of all languages, a build has only ours.
    return (folder / "pulumi-language-go").exists()


# Pulumi's own language hosts


def official_hosts(path: str, own: Path) -> Path | None:
    """The first folder on `path` with Pulumi's own Python language host, which is no script."""
    for folder in map(Path, filter(None, path.split(os.pathsep))):
        host = folder / LANGUAGE_HOST
        with contextlib.suppress(OSError):
            if folder.resolve() != own.resolve() and not host.read_bytes().startswith(b"#!"):
                return folder.resolve()
    return None


def beside(pulumi: Path, hosts: Path, folder: Path) -> Path:
    """Fill the folder with `pulumi` and these hosts, and return its `pulumi`.

    Pulumi warns in every run about a host on PATH that is not in its own folder.
    """
    with filling(folder) as new:
        try:
            os.link(pulumi, new / "pulumi")
        except OSError:  # another file system
            shutil.copy2(pulumi, new / "pulumi")
        for source in (hosts, pulumi.parent):
            for part in (file for pattern in PARTS for file in source.glob(pattern)):
                if not (new / part.name).exists():
                    (new / part.name).symlink_to(part)
    return folder / "pulumi"


# Choosing one of the four


def get_pulumi(own: Path) -> Path:
    found = installed(os.environ.get("PATH", ""), own)
    if found is not None:
        return found
    folder = cache_folder()
    if version_of(folder / "pulumi") == VERSION:
        add_language_host(folder)
        return folder / "pulumi"
    reasons = []
    for what, expected, get in (
        (f"downloading the official bundle of {VERSION}", "about 150 MB", fetch_bundle),
        (f"building {VERSION} from its Go modules", "minutes, once per machine", build),
    ):
        try:
            with step(what, expected):
                get(folder)
            return folder / "pulumi"
        except Unavailable as reason:
            say(f"{reason}.")
            reasons.append(str(reason))
    raise Unavailable(
        f"no pulumi {VERSION}: {'; '.join(reasons)}. "
        "Install the Pulumi CLI (https://www.pulumi.com/docs/install/) or "
        "Go 1.25.11 or later (https://go.dev/dl/), and run 'make setup' again"
    )


def install(pulumi: Path, own: Path) -> None:
    """Write a script, not a link: pulumi looks for its plugins beside the target of a link."""
    folders = [own, pulumi.parent]
    host = shutil.which(LANGUAGE_HOST)
    if not (pulumi.resolve().parent / LANGUAGE_HOST).exists() and host:
        folders.append(Path(host).parent)
    path = shlex.quote(os.pathsep.join(map(str, folders)))
    write_executable(
        own / "pulumi",
        f'#!/bin/sh\nPATH={path}:"$PATH" exec {shlex.quote(str(pulumi))} "$@"\n'.encode(),
    )


def main() -> None:
    own = Path(sys.argv[1]).absolute()
    start = time.monotonic()
    try:
        pulumi = get_pulumi(own)
    except Unavailable as reason:
        sys.exit(f"pulumi: {reason}.")
    hosts = official_hosts(os.environ.get("PATH", ""), own)
    if hosts not in (None, pulumi.resolve().parent) and not is_official(pulumi.resolve().parent):
        say(f"with the language hosts in {hosts}")
        pulumi = beside(pulumi, hosts, own.parent / "pulumi-cli")
    install(pulumi, own)
    say(f"{version_of(own / 'pulumi')} from {pulumi.parent} ({time.monotonic() - start:.1f} s)")


if __name__ == "__main__":
    main()
