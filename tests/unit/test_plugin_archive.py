"""The archives of the native plugin, which `pulumi plugin install` unpacks."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from tools import plugin_archive

from pulumi_fal._version import __version__

from ..docs import ROOT

WHEEL = f"pulumi_fal-{__version__}-py3-none-any.whl"


def locked(name: str) -> set[str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return set(re.findall(r"(?m)^(\S+==\S+)", text))


def test_archives(tmp_path: Path) -> None:
    """There is one for each platform, with the plugin's folder, the wheel, and pinned packages."""
    (tmp_path / WHEEL).write_bytes(b"a wheel")
    archives = plugin_archive.write(tmp_path / WHEEL, tmp_path / "new")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [
        f"pulumi-resource-fal-v{__version__}-{system}-{cpu}.tar.gz"
        for system in ("darwin", "linux", "windows")
        for cpu in ("amd64", "arm64")
    ]
    assert len({archive.read_bytes() for archive in archives}) == 1
    content = {}
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            content[member.name] = file.read()
    digest = hashlib.sha256(b"a wheel").hexdigest()
    lock = (ROOT / "requirements" / "plugin.txt").read_text()
    assert content == {
        **{
            name: (ROOT / "plugin" / name).read_bytes()
            for name in ("PulumiPlugin.yaml", "__main__.py")
        },
        WHEEL: b"a wheel",
        "requirements.txt": f"./{WHEEL} --hash=sha256:{digest}\n{lock}".encode(),
    }


def test_lock() -> None:
    """An archive installs all that the package needs, and no version that no test has seen."""
    assert locked("plugin") <= locked("dev")
    needs = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [")[2]
    names = set(re.findall(r'(?m)^    "([\w-]+)', needs.partition("\n]")[0]))
    assert {"pulumi", "requests"} <= names <= {pin.partition("==")[0] for pin in locked("plugin")}


def test_environment() -> None:
    """The plugin has a virtual environment, or pip would change the Python of the computer."""
    runtime = yaml.safe_load((ROOT / "plugin" / "PulumiPlugin.yaml").read_text())["runtime"]
    assert runtime == {"name": "python", "options": {"toolchain": "pip", "virtualenv": "venv"}}


@pytest.mark.parametrize(
    "args, code, said",
    [
        ("--version", 0, f"{__version__}\n"),
        ("--help", 0, "The Pulumi plugin for fal Compute."),
        ("serve", 2, "'serve' is not the address of a Pulumi engine"),
    ],
)
def test_run_by_a_person(args: str, code: int, said: str) -> None:
    """A person who runs the plugin's folder gets text, and no server."""
    command = [sys.executable, str(ROOT / "plugin"), args]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == code
    assert said in ended.stdout + ended.stderr
