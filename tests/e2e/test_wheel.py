"""The wheel and the sdist: what is in them, and what works with nothing but the wheel."""

from __future__ import annotations

import os
import re
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import pulumi_fal
from pulumi_fal.emulator.server import EmulatorServer

from .harness import OFFICIAL_HOST, Stack, machine
from .installed import EXTRAS, ROOT, Environment, block, build, once

PACKAGE = ROOT / "provider" / "pulumi_fal"
NOT_PYTHON = {"pulumi-plugin.json", "py.typed", "emulator/page.html", "native/schema.json"}
METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
VERSION = pulumi_fal.__version__
RAW = f"https://raw.githubusercontent.com/fal-ai/pulumi-fal/v{VERSION}/"
"""Where GitHub has the README's pictures."""


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
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
    """The wheel without extras, and pytest."""
    return Environment(once(tmp_path_factory, "bare", lambda to: Environment(to).make(wheel)))


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """The wheel with its emulator, and pytest."""
    folder = once(
        tmp_path_factory, "full", lambda to: Environment(to).make(wheel, extra="emulator")
    )
    return Environment(folder)


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
    assert {"pulumi", "fal", "h100"} <= set(said["Keywords"].split(","))
    assert said.get_all("Project-URL")
    assert "Typing :: Typed" in said.get_all("Classifier", [])
    assert said["Author"]
    needs = said.get_all("Requires-Dist", [])
    by_extra: dict[str, set[str]] = {}
    for need in needs:
        name, extra = re.fullmatch(r"([\w-]+)[^;]*(?:; extra == '(\w+)')?", need).groups("")  # type: ignore[union-attr]
        by_extra.setdefault(extra, set()).add(name)
    assert by_extra == {name: set(packages) for name, packages in EXTRAS.items()}


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


def test_version(wheel: Path, bare: Environment) -> None:
    """All that shows it shows the same; the change log begins with it or with Unreleased."""
    literal = f'"{VERSION}"'
    sources = [*PACKAGE.rglob("*.py"), ROOT / "pyproject.toml"]
    assert [path.name for path in sources if literal in path.read_text()] == ["_version.py"]
    assert metadata(wheel)["Version"] == VERSION
    ask = (
        "import importlib.metadata as m, pulumi_fal;"
        "from pulumi_fal.api import settings, transport;"
        "wire = transport.Transport(settings.Settings('https://x', 'k', ''));"
        "agent = wire._pooled.headers['User-Agent'];"
        "print(m.version('pulumi-fal'), pulumi_fal.__version__, agent)"
    )
    assert bare.run("python", "-c", ask).split() == [VERSION, VERSION, f"pulumi-fal/{VERSION}"]
    assert bare.run("pulumi-fal", "--version") == f"pulumi-fal, version {VERSION}\n"
    latest = re.search(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text())
    assert latest is not None
    assert latest[1] in ("Unreleased", VERSION)


# What works with it


def test_names(bare: Environment) -> None:
    """Every public name can be imported from the wheel. What needs an extra says which."""
    ask = "import pulumi_fal as p; print(p.__file__); [getattr(p, name) for name in p.__all__]"
    file = bare.run("python", "-W", "error", "-c", ask).strip()
    assert Path(file).is_relative_to(bare.folder)
    for command in (("pulumi-fal", "emulator"), ("python", "-m", "pulumi_fal.emulator")):
        assert re.fullmatch(
            r"The [\w ]+ needs (fastapi|uvicorn): pip install 'CLONE\[emulator\]', where CLONE "
            r"is .+\.\n",
            bare.run(*command, exit_code=1),
        )


def test_program(bare: Environment, stack: Stack, emulator: EmulatorServer) -> None:
    """The real engine creates a machine and destroys it with the wheel alone."""
    if OFFICIAL_HOST:  # it asks pip what is installed
        bare.run("python", "-m", "ensurepip")

    def pulumi(*args: str) -> str:
        flags = ("--non-interactive", "--stack", "dev")
        return bare.run("pulumi", *args, *flags, cwd=stack.project, env=env)

    env = {name: value for name, value in stack.env.items() if name not in ("PATH", "HOME")}
    stack.write(machine())
    pulumi("up", "--yes", "--skip-preview")
    assert stack.outputs()["machine"]["status"] == "ready"
    assert emulator.state.creations == 1
    pulumi("destroy", "--yes", "--skip-preview")
    assert emulator.state.alive() == set()


# The pytest plugin

USERS_TEST = block("docs/emulator.md", "python", "from pulumi import automation\n")


def run_test(env: Environment, folder: Path, test: str, *flags: str, **variables: str) -> str:
    (folder / "test_mine.py").write_text(test)
    options = ("-q", "-p", "no:cacheprovider", "-W", "error", *flags)
    return env.run("python", "-m", "pytest", *options, cwd=folder, env=variables)


@pytest.mark.chaos("unit/test_emulator_cli.py::test_fixture")
def test_users_test(full: Environment, tmp_path: Path) -> None:
    """The test in the docs creates, looks at and destroys a machine with the Automation API.

    Nothing is activated: on PATH is no Python that has the package.
    """
    code = [line for line in USERS_TEST.splitlines() if line and "import " not in line]
    assert len(code) <= 11
    path = full.path.removeprefix(f"{full.bin}{os.pathsep}")
    assert "1 passed" in run_test(full, tmp_path, USERS_TEST, "-W", "default", PATH=path)


NOT_LOADED = """
import sys
def test_nothing_is_loaded():
    heavy = ("pulumi", "grpc", "fastapi", "uvicorn", "pydantic", "requests", "click")
    assert [name for name in heavy if name in sys.modules] == []
    ours = sorted(name for name in sys.modules if name.startswith("pulumi_fal"))
    assert ours == ["pulumi_fal", "pulumi_fal._version", "pulumi_fal.emulator",
                    "pulumi_fal.emulator.pytest_plugin"]
"""


def test_unused(full: Environment, tmp_path: Path) -> None:
    """pytest loads it in every run of every project, so it loads nothing that is not used."""
    assert "1 passed" in run_test(full, tmp_path, NOT_LOADED)


def test_left_out_here() -> None:
    """A plugin that is imported before coverage begins would count as lines that never ran."""
    assert "pulumi_fal.emulator.pytest_plugin" not in sys.modules
