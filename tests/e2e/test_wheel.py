"""The wheel and the sdist: what is in them, and what works with nothing but the wheel."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import pulumi_fal
from pulumi_fal.emulator import INSTALL
from pulumi_fal.emulator.server import EmulatorServer

from ..docs import REPOSITORY, blocks
from .harness import OFFICIAL_HOST, Stack
from .installed import EMULATOR, NEEDS, ROOT, Environment, build, once

PACKAGE = ROOT / "provider" / "pulumi_fal"
NOT_PYTHON = {"pulumi-plugin.json", "py.typed", "emulator/page.html", "native/schema.json"}
METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
VERSION = pulumi_fal.__version__
RAW = f"https://raw.githubusercontent.com/fal-ai/pulumi-fal/v{VERSION}/"
"""Where GitHub has the README's pictures."""


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(
        tmp_path_factory,
        "dist",
        lambda folder: [build(kind, folder) for kind in ("wheel", "sdist")],
    )


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    return dist / f"pulumi_fal-{VERSION}-py3-none-any.whl"


@pytest.fixture(scope="session")
def sdist(dist: Path) -> Path:
    return dist / f"pulumi_fal-{VERSION}.tar.gz"


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    return Environment(once(tmp_path_factory, "bare", lambda to: Environment(to).make(wheel)))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"pulumi_fal-{VERSION}.dist-info/METADATA").decode()
    return message_from_string(text)


# What is in them


def test_wheel(wheel: Path) -> None:
    """The wheel has no tests and no tools, and all files of the package that aren't Python."""
    modules = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")}
    assert names(wheel) == {
        *(f"pulumi_fal/{name}" for name in modules | NOT_PYTHON),
        *(f"pulumi_fal-{VERSION}.dist-info/{name}" for name in METADATA),
    }


def test_sdist(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    """The wheel that is built from the sdist is the same as the one from the sources."""
    top = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.removeprefix(f"{top}/") for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    of_the_package = {name for name in names(wheel) if name.startswith("pulumi_fal/")}
    assert inside == {
        *(f"provider/{name}" for name in of_the_package),
        *("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO", ".gitignore"),
    }
    again = build("wheel", tmp_path / "again", tmp_path / top)
    assert again.read_bytes() == wheel.read_bytes()


def test_metadata(wheel: Path) -> None:
    """The metadata has the requirements, the extras, a licence and authors."""
    said = metadata(wheel)
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Requires-Python"] == ">=3.10"
    assert said["Author"]
    needs = said.get_all("Requires-Dist", [])
    by_extra: dict[str, set[str]] = {}
    for need in needs:
        name, extra = re.fullmatch(r"([\w-]+)[^;]*(?:; extra == '(\w+)')?", need).groups("")  # type: ignore[union-attr]
        by_extra.setdefault(extra, set()).add(name)
    assert by_extra == {"": set(NEEDS), "emulator": set(EMULATOR)}


def test_readme(wheel: Path) -> None:
    """The package index shows the README. Its links lead to the files of the same version."""
    said = metadata(wheel)
    urls = dict(url.split(", ") for url in said.get_all("Project-URL", []))
    base = f"{urls['Repository']}/blob/v{VERSION}/"
    assert said["Description-Content-Type"] == "text/markdown"
    page = said.get_payload()
    assert isinstance(page, str)
    links = re.findall(r"\]\((.+?)\)|(?:src|srcset)=\"(.+?)\"", page)
    assert len(links) > 20
    assert all(re.match("#|https://", target or image) for target, image in links)
    text = page.replace(base, "").replace(RAW, "")
    assert text == (ROOT / "README.md").read_text()


def test_version(wheel: Path) -> None:
    """It stands in one file, and the change log begins with it or with Unreleased."""
    literal = f'"{VERSION}"'
    sources = [*PACKAGE.rglob("*.py"), ROOT / "pyproject.toml"]
    assert [path.name for path in sources if literal in path.read_text()] == ["_version.py"]
    assert metadata(wheel)["Version"] == VERSION
    latest = re.search(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text())
    assert latest is not None
    assert latest[1] in ("Unreleased", VERSION)


PRINTED = {
    shlex.split(line)[-1]
    for text in [INSTALL, *(block.text for block in blocks("sh"))]
    for line in text.splitlines()
    if f"git+{REPOSITORY}" in line
}
"""What the docs and the emulator have people install."""


def test_install(tmp_path: Path) -> None:
    """`pip install` takes it as it is printed."""
    assert {re.sub(r"\[emulator\]", "", one) for one in PRINTED} == {
        f"pulumi-fal @ git+{REPOSITORY}"
    }
    command = [sys.executable, "-m", "pip", "install", "--target", str(tmp_path / "site")]
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    here = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": REPOSITORY,
    }
    result = subprocess.run(
        [*command, *offline, max(PRINTED, key=len)],
        cwd=ROOT,
        env={**os.environ, **here},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "site" / "pulumi_fal" / "native" / "schema.json").is_file()


# What works with it. `make dist` installs it as well.


@pytest.mark.chaos("e2e/test_wheel.py::test_metadata")
def test_names(bare: Environment) -> None:
    """Every public name can be imported from the wheel. What needs an extra says which.

    pytest loads the plugin in every run of every project, so it loads nothing that is not used.
    """
    ask = "import pulumi_fal as p; print(p.__file__); [getattr(p, name) for name in p.__all__]"
    file = bare.run("python", "-W", "error", "-c", ask).strip()
    assert Path(file).is_relative_to(bare.folder)
    assert bare.run("pulumi-fal", "--version") == f"pulumi-fal, version {VERSION}\n"
    for command in (("pulumi-fal", "emulator"), ("python", "-m", "pulumi_fal.emulator")):
        said = bare.run(*command, exit_code=1)
        needs = r"The [\w ]+ needs (fastapi|uvicorn)\. To install it:\n  "
        assert re.fullmatch(f"{needs}{re.escape(INSTALL)}\n", said)
    load = "import sys, pulumi_fal.emulator.pytest_plugin; print(*sys.modules)"
    loaded = bare.run("python", "-c", load).split()
    assert not {"pulumi", "grpc", "fastapi", "uvicorn", "pydantic", "requests", "click"} & {*loaded}
    assert sorted(name for name in loaded if name.startswith("pulumi_fal")) == [
        *("pulumi_fal", "pulumi_fal._version", "pulumi_fal.emulator"),
        "pulumi_fal.emulator.pytest_plugin",
    ]


@pytest.mark.chaos("e2e/test_wheel.py::test_metadata")
def test_program(bare: Environment, stack: Stack, emulator: EmulatorServer) -> None:
    """The real engine creates a machine with the wheel alone."""
    if OFFICIAL_HOST:  # it asks pip what is installed
        bare.run("python", "-m", "ensurepip")
    env = {name: value for name, value in stack.env.items() if name not in ("PATH", "HOME")}
    flags = ("--yes", "--skip-preview", "--non-interactive", "--stack", "dev")
    bare.run("pulumi", "up", *flags, cwd=stack.project, env=env)
    assert stack.outputs()["machine"]["status"] == "ready"
    assert stack.state_ids() == emulator.state.alive()
