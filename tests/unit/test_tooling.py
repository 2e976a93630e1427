"""What is downloaded, generated, released and given as an example fits this repository."""

from __future__ import annotations

import hashlib
import re
import runpy
import tarfile
from pathlib import Path

import griffe
import pytest
from tools import breaking, plugin_archive, release
from tools.generate.__main__ import FILES, main

from pulumi_fal._version import __version__
from pulumi_fal.cli.__main__ import NEWEST_SDK, OLDEST_SDK

from ..docs import ROOT

installer = runpy.run_path(str(ROOT / "tools" / "pulumi-cli" / "install.py"))


# Packages


def locked(name: str) -> dict[str, str]:
    """The version of each package of a lock."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"(?m)^(\S+)==(\S+)", text))


@pytest.mark.parametrize("name", ["dev", "plugin", "docs"])
def test_lock(name: str) -> None:
    """Every package has hashes, and whoever installs the lock decides where packages come from."""
    lock = (ROOT / "requirements" / f"{name}.txt").read_text()
    packages = re.split(r"(?m)^(?=[a-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", lock))[1:]
    assert len(packages) > 10
    for package in packages:
        assert re.match(r"[a-z0-9._-]+==\S+ [^$]*--hash=sha256:", package)
    assert not re.search(r"://|--(extra-)?index-url|--find-links", lock)


def test_versions() -> None:
    """The plugin installs what tests have seen, and the doctor knows the versions of the SDK."""
    project = (ROOT / "pyproject.toml").read_text()
    needs = project.partition("\ndependencies = [")[2].partition("\n]")[0]
    names = set(re.findall(r'(?m)^    "([\w-]+)', needs))
    assert {"pulumi", "requests"} <= names <= locked("plugin").keys()
    assert locked("plugin").items() <= locked("dev").items()
    newest = tuple(map(int, locked("dev")["pulumi"].split(".")[:2]))
    assert newest == NEWEST_SDK
    assert f'"pulumi>={OLDEST_SDK[0]}.{OLDEST_SDK[1]},' in needs


def test_bundle_checksum() -> None:
    """A bundle of `pulumi` is used only if its checksum is the published one."""
    good = hashlib.sha256(b"content").hexdigest()
    assert installer["checked"](b"content", "p.tar.gz", f"{good}  p.tar.gz\n") == b"content"
    for checksums in (f"{'0' * 64}  p.tar.gz\n", f"{good}  another.tar.gz\n", ""):
        with pytest.raises(installer["Unavailable"], match=r"p\.tar\.gz is not what"):
            installer["checked"](b"content", "p.tar.gz", checksums)


# Releases

DATED = "## [1.2.3] - 2026-01-31\n\n### Added\n\n- A thing.\n\n"
OLDER = "## [1.2.2] - 2026-01-30\n\n- An older thing.\n"


def test_release_notes() -> None:
    """The text of a release is its section of the changelog."""
    text = release.notes("v1.2.3", '__version__ = "1.2.3"\n', f"# Changelog\n\n{DATED}{OLDER}")
    assert text == "### Added\n\n- A thing.\n"


@pytest.mark.parametrize(
    "tag, version, changelog, reason",
    [
        ("v1.2.4", "1.2.3", DATED, r"The tag is v1\.2\.4, but .*_version\.py has 1\.2\.3"),
        ("1.2.3", "1.2.3", DATED, r"The tag is 1\.2\.3"),
        ("v1.2.0", "1.2.0", DATED, r"CHANGELOG\.md says nothing of 1\.2\.0"),
        ("v1.2.3", "1.2.3", f"## [1.2.3] - 2026-01-31\n\n{OLDER}", "CHANGELOG"),
        ("v1.2.3", "1.2.3", DATED.replace(" - 2026-01-31", ""), "CHANGELOG"),
    ],
)
def test_wrong_tag(tag: str, version: str, changelog: str, reason: str) -> None:
    """A tag that doesn't fit the version or the changelog releases nothing."""
    with pytest.raises(release.NotReady, match=reason):
        release.notes(tag, f'__version__ = "{version}"\n', changelog)


BEFORE = {
    "__init__.py": "from pulumi_fal.things import Thing\n__all__ = ['Thing']\n",
    "things.py": "class Thing:\n    def rent(self, days=1): ...\nclass Inner: ...\n",
    "emulator/__init__.py": "",
    "emulator/server.py": "class Server: ...\n",
}


@pytest.mark.parametrize(
    "file, old, new, names",
    [
        ("__init__.py", "'Thing'", "", ["pulumi_fal.Thing"]),
        ("things.py", "days=1", "", ["pulumi_fal.things.Thing.rent"]),
        ("things.py", "days=1", "days=1, hours=0", []),
        ("things.py", "class Inner: ...", "", []),
        ("emulator/server.py", "class Server: ...", "", ["pulumi_fal.emulator.server.Server"]),
    ],
    ids=["a name", "a parameter", "a new parameter", "what is internal", "the emulator"],
)
def test_breaking(file: str, old: str, new: str, names: list[str]) -> None:
    """What programs used and have no more is named."""
    after = {**BEFORE, file: BEFORE[file].replace(old, new)}
    with (
        griffe.temporary_visited_package("pulumi_fal", BEFORE) as released,
        griffe.temporary_visited_package("pulumi_fal", after) as now,
    ):
        found = breaking.breaks(released, now)
    assert [line.partition(": ")[0] for line in found] == names


# The native plugin's archives, which `pulumi plugin install` unpacks


def test_archives(tmp_path: Path) -> None:
    """There is one for each platform, with the plugin's folder, the wheel, and pinned packages."""
    wheel = f"pulumi_fal-{__version__}-py3-none-any.whl"
    (tmp_path / wheel).write_bytes(b"a wheel")
    archives = plugin_archive.write(tmp_path / wheel, tmp_path / "new")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [
        f"pulumi-resource-fal-v{__version__}-{system}-{cpu}.tar.gz"
        for system in ("darwin", "linux", "windows")
        for cpu in ("amd64", "arm64")
    ]
    assert len({archive.read_bytes() for archive in archives}) == 1
    with tarfile.open(archives[0]) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    content = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    digest = hashlib.sha256(b"a wheel").hexdigest()
    lock = (ROOT / "requirements" / "plugin.txt").read_text()
    plugin = [ROOT / "plugin" / name for name in ("PulumiPlugin.yaml", "__main__.py")]
    assert content == {
        **{file.name: file.read_bytes() for file in plugin},
        wheel: b"a wheel",
        "requirements.txt": f"./{wheel} --hash=sha256:{digest}\n{lock}".encode(),
    }


# Files that `make generate` writes. `make lint` fails where one is outdated.


def test_outdated(tmp_path: Path) -> None:
    """A file that is missing or edited fails the check, and `make generate` repairs it."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True)
    for spoil in (lambda file: file.write_text(file.read_text() + "edited"), Path.unlink):
        main([], tmp_path)
        main(["--check"], tmp_path)
        for name in FILES:
            spoil(tmp_path / name)
        with pytest.raises(SystemExit, match=rf"{'.*'.join(map(re.escape, FILES))}.*Run `make gen"):
            main(["--check"], tmp_path)
