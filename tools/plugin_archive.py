#!/usr/bin/env python3
"""Pack the native plugin for `pulumi plugin install`: plugin_archive.py WHEEL FOLDER

It writes an archive for each platform into the folder. They are the same but for their names, which
Pulumi looks for: the plugin is a Python program. `pulumi` unpacks an archive, makes a virtual
environment in it, and installs the requirements there, all of them locked with hashes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = tuple(
    f"{system}-{cpu}" for system in ("darwin", "linux", "windows") for cpu in ("amd64", "arm64")
)
"""As Pulumi calls them."""


def names(version: str) -> list[str]:
    """Return the names of the archives, which Pulumi makes of the version and its platform."""
    return [f"pulumi-resource-fal-v{version}-{platform}.tar.gz" for platform in PLATFORMS]


def write(wheel: Path, folder: Path) -> list[Path]:
    """Write the archives with the wheel, and return their paths."""
    version = wheel.name.split("-")[1]
    packed = _packed(_content(wheel))
    folder.mkdir(parents=True, exist_ok=True)
    archives = [folder / name for name in names(version)]
    for archive in archives:
        archive.write_bytes(packed)
    return archives


def _content(wheel: Path) -> Mapping[str, bytes]:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    locked = (ROOT / "requirements" / "plugin.txt").read_text(encoding="utf-8")
    return {
        **{
            name: (ROOT / "plugin" / name).read_bytes()
            for name in ("PulumiPlugin.yaml", "__main__.py")
        },
        "requirements.txt": f"./{wheel.name} --hash=sha256:{digest}\n{locked}".encode(),
        wheel.name: wheel.read_bytes(),
    }


def _packed(content: Mapping[str, bytes]) -> bytes:
    """Return a .tar.gz that is the same whenever it is packed."""
    file = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


if __name__ == "__main__":
    for path in write(Path(sys.argv[1]), Path(sys.argv[2])):
        print(path)
