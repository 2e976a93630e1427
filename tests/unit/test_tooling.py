"""What set-up downloads is what was published, and a release fits its tag."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import re
import tarfile
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.cli.doctor import NEWEST_SDK, OLDEST_SDK

from ..docs import ROOT


def load(name: str) -> Any:
    """A tool that is a script."""
    path = ROOT / "tools" / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release, installer = load("release.py"), load("pulumi-cli/install.py")


@pytest.mark.parametrize("name", ["dev", "plugin"])
def test_lock(name: str) -> None:
    """Every package has hashes, and whoever installs the lock decides where packages come from."""
    lock = (ROOT / "requirements" / f"{name}.txt").read_text()
    packages = re.split(r"(?m)^(?=[a-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", lock))[1:]
    assert len(packages) > 10
    for package in packages:
        assert re.match(r"[a-z0-9._-]+==\S+ ", package)
        assert "--hash=sha256:" in package
    assert not re.search(r"://|--(extra-)?index-url|--find-links", lock)


def test_package_data() -> None:
    """Type checkers read the package, and `pulumi` looks for no plugin to download."""
    package = resources.files("pulumi_fal")
    assert (package / "py.typed").is_file()
    assert json.loads((package / "pulumi-plugin.json").read_text()) == {"resource": False}


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


def test_bundle_checksum() -> None:
    """A bundle of `pulumi` is used only if its checksum is the published one."""
    good = hashlib.sha256(b"content").hexdigest()
    assert installer.checked(b"content", "p.tar.gz", f"{good}  p.tar.gz\n") == b"content"
    for checksums in (f"{'0' * 64}  p.tar.gz\n", f"{good}  another.tar.gz\n", ""):
        with pytest.raises(installer.Unavailable, match=r"p\.tar\.gz is not what"):
            installer.checked(b"content", "p.tar.gz", checksums)


def test_bundle_paths(tmp_path: Path) -> None:
    """The files of a bundle are unpacked into one folder, and none outside it."""
    bundle, folder = io.BytesIO(), tmp_path / "inside" / "folder"
    with tarfile.open(fileobj=bundle, mode="w:gz") as archive:
        for name in ("pulumi/pulumi", "../../evil", "/abs/evil2"):
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("pulumi/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    folder.mkdir(parents=True)
    installer.unpack(bundle.getvalue(), folder)
    assert {path.name for path in folder.iterdir()} == {"pulumi", "evil", "evil2"}
    assert not (tmp_path / "evil").exists()


def test_doctors_sdk_versions() -> None:
    """The doctor calls those versions of the SDK tested that nox and the lock have."""
    project, lock = (ROOT / "pyproject.toml", ROOT / "requirements" / "dev.txt")
    oldest = re.search(r'"pulumi>=([\d.]+),', project.read_text())
    newest = re.search(r"(?m)^pulumi==(\d+\.\d+)\.", lock.read_text())
    assert oldest is not None
    assert newest is not None
    assert [oldest[1], newest[1]] == ["{}.{}".format(*v) for v in (OLDEST_SDK, NEWEST_SDK)]
