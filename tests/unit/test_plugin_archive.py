"""The archives of the native plugin, which `pulumi plugin install` unpacks."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import plugin_archive

from pulumi_fal._version import __version__

from ..docs import ROOT

WHEEL = f"pulumi_fal-{__version__}-py3-none-any.whl"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    file = tmp_path / WHEEL
    file.write_bytes(b"a wheel")
    return file


def test_an_archive_has_the_name_that_pulumi_asks_for(wheel: Path, tmp_path: Path) -> None:
    """One for each platform on which there is Pulumi; a release has files and no folders."""
    archives = plugin_archive.write(wheel, tmp_path / "new")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [
        f"pulumi-resource-fal-v{__version__}-{system}-{cpu}.tar.gz"
        for system in ("darwin", "linux", "windows")
        for cpu in ("amd64", "arm64")
    ]
    assert len({archive.read_bytes() for archive in archives}) == 1


def test_an_archive_is_the_plugins_folder_with_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """What Pulumi does with the folder, it does with the archive."""
    with tarfile.open(plugin_archive.write(wheel, tmp_path)[0]) as archive:
        # The first versions of Python 3.10 and 3.11 have no filters.
        options: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path / "plugin", **options)
    for name in ("PulumiPlugin.yaml", "__main__.py"):
        assert (tmp_path / "plugin" / name).read_bytes() == (ROOT / "plugin" / name).read_bytes()
    assert (tmp_path / "plugin" / WHEEL).read_bytes() == b"a wheel"
    assert sorted(file.name for file in (tmp_path / "plugin").iterdir()) == sorted(
        ["PulumiPlugin.yaml", "__main__.py", "requirements.txt", WHEEL]
    )


def test_every_requirement_is_pinned_with_hashes(wheel: Path, tmp_path: Path) -> None:
    """pip checks all of them, the wheel's as well, or it refuses the whole file."""
    with tarfile.open(plugin_archive.write(wheel, tmp_path)[0]) as archive:
        file = archive.extractfile("requirements.txt")
        assert file is not None
        wanted = file.read().decode()
    digest = hashlib.sha256(b"a wheel").hexdigest()
    assert wanted.startswith(f"./{WHEEL} --hash=sha256:{digest}\n")
    pins, packages = locked("plugin"), re.findall(r"(?m)^\S+==", wanted)
    assert len(pins) == len(packages) > 10
    assert wanted.count("\\\n    --hash=sha256:") >= len(pins)
    assert "://" not in wanted


def test_the_plugins_lock_has_what_the_package_needs_as_it_was_tested() -> None:
    """`make lock` writes both locks. An archive installs no version that no test has seen."""
    assert locked("plugin") <= locked("dev")
    needs = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [")[2]
    names = set(re.findall(r'(?m)^    "([\w-]+)', needs.partition("\n]")[0]))
    assert names >= {"pulumi", "requests"}
    assert names <= {pin.partition("==")[0] for pin in locked("plugin")}


def locked(name: str) -> set[str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return set(re.findall(r"(?m)^(\S+==\S+)", text))


def test_pulumi_makes_the_plugins_environment_in_its_own_folder() -> None:
    """Without `virtualenv`, pip would change the Python of the computer."""
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
def test_a_person_who_runs_the_folder_gets_text_and_no_server(
    args: str, code: int, said: str
) -> None:
    """The folder's program is that of the command, and ends at once as it does."""
    command = [sys.executable, str(ROOT / "plugin"), args]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == code
    assert said in ended.stdout + ended.stderr
