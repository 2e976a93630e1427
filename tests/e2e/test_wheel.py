"""The wheel and the sdist: what is in them, and what works with nothing but the wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import pulumi_fal
from pulumi_fal.emulator.server import EmulatorServer

from .harness import OFFICIAL_HOST, SSH_KEY
from .installed import EXTRAS, ROOT, Environment, build

PACKAGE = ROOT / "provider" / "pulumi_fal"
NOT_PYTHON = {"pulumi-plugin.json", "py.typed", "emulator/page.html", "native/schema.json"}
METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
VERSION = pulumi_fal.__version__


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build("wheel", folder)
    build("sdist", folder)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return dist / f"pulumi_fal-{VERSION}-py3-none-any.whl"


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    return dist / f"pulumi_fal-{VERSION}.tar.gz"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """The wheel without extras."""
    return Environment(tmp_path_factory.mktemp("bare") / "env", wheel)


@pytest.fixture(scope="module")
def with_emulator(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    return Environment(tmp_path_factory.mktemp("emulator") / "env", wheel, "emulator")


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"pulumi_fal-{VERSION}.dist-info/METADATA").decode()
    return message_from_string(text)


# What is in them


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """The wheel has no tests and no tools, and all files of the package that aren't Python."""
    modules = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")}
    assert names(wheel) == {
        *(f"pulumi_fal/{name}" for name in modules | NOT_PYTHON),
        *(f"pulumi_fal-{VERSION}.dist-info/{name}" for name in METADATA),
    }


def test_the_sdist_holds_that_and_what_builds_it(wheel: Path, sdist: Path, tmp_path: Path) -> None:
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


def test_twine_has_nothing_to_say(wheel: Path, sdist: Path) -> None:
    """`twine check` refuses what a package index would refuse."""
    twine = (sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    checked = subprocess.run(twine, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("PASSED") == 2


def test_the_metadata_says_what_it_is_and_needs(wheel: Path) -> None:
    """The metadata has the requirements, the extras, a licence, and the README as description."""
    said = metadata(wheel)
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Requires-Python"] == ">=3.10"
    assert {"pulumi", "fal", "h100"} <= set(said["Keywords"].split(","))
    assert said.get_all("Project-URL")
    assert "Typing :: Typed" in said.get_all("Classifier", [])
    assert said.get_payload() == (ROOT / "README.md").read_text()
    needs = said.get_all("Requires-Dist", [])
    by_extra: dict[str, set[str]] = {}
    for need in needs:
        name, extra = re.fullmatch(r"([\w-]+)[^;]*(?:; extra == '(\w+)')?", need).groups("")  # type: ignore[union-attr]
        by_extra.setdefault(extra, set()).add(name)
    assert by_extra == {name: set(packages) for name, packages in EXTRAS.items()}


def test_the_version_is_in_one_place(wheel: Path, bare: Environment) -> None:
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


def test_without_extras_the_package_is_all_there(bare: Environment) -> None:
    """Every public name can be imported from the wheel."""
    ask = "import pulumi_fal as p; print(p.__file__); [getattr(p, name) for name in p.__all__]"
    file = bare.run("python", "-W", "error", "-c", ask).strip()
    assert Path(file).is_relative_to(bare.folder)


@pytest.mark.parametrize(
    "command, extra, needed",
    [
        (("pulumi-fal", "emulator"), "emulator", "fastapi|uvicorn"),
        (("python", "-m", "pulumi_fal.emulator"), "emulator", "fastapi|uvicorn"),
    ],
)
def test_what_needs_an_extra_says_which(
    bare: Environment, command: tuple[str, ...], extra: str, needed: str
) -> None:
    """The error is one sentence without a traceback, with exit code 1."""
    said = bare.run(*command, exit_code=1)
    assert re.fullmatch(
        rf"The [\w ]+ needs (?:{needed}): pip install 'CLONE\[{extra}\]', where CLONE is .+\.\n",
        said,
    )


def test_the_command_line_comes_with_the_package_and_the_emulator_with_its_extra(
    bare: Environment, with_emulator: Environment
) -> None:
    """Messages print commands of `pulumi-fal`, so whoever reads them has it."""
    assert "Usage: pulumi-fal" in bare.run("pulumi-fal", "--help")
    start = (
        "from pulumi_fal.emulator.server import EmulatorServer as E; import urllib.request as u\n"
        "with E() as e: print(u.urlopen(e.url).read().decode()[:15])"
    )
    assert with_emulator.run("python", "-c", start) == "<!DOCTYPE html>\n"


PROGRAM = f"""\
import pulumi
from pulumi_fal import ComputeInstance

machine = ComputeInstance(
    "machine",
    instance_type="gpu_1x_h100_sxm5",
    ssh_key={SSH_KEY!r},
)
pulumi.export("status", machine.status)
"""


def test_a_program_of_ten_lines_works_with_the_wheel_alone(
    bare: Environment, tmp_path: Path
) -> None:
    """The real engine creates the machine, finds nothing more to do, and destroys it."""
    (tmp_path / "Pulumi.yaml").write_text("name: mine\nruntime: python\n")
    (tmp_path / "__main__.py").write_text(PROGRAM)
    with EmulatorServer(provisioning=0.2, deletion=0.1) as emulator:
        env = {
            **emulator.env,
            "PULUMI_BACKEND_URL": f"file://{tmp_path}",
            "PULUMI_HOME": str(tmp_path / "home"),
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "FAL_COMPUTE_POLL_INTERVAL": "0.1",
        }

        def pulumi(*args: str) -> str:
            flags = ("--non-interactive", "--stack", "dev")
            return bare.run("pulumi", *args, *flags, cwd=tmp_path, env=env)

        if OFFICIAL_HOST:  # it asks pip what is installed
            bare.run("python", "-m", "ensurepip")
        pulumi("stack", "init")
        pulumi("up", "--yes", "--skip-preview")
        assert pulumi("stack", "output", "status") == "ready\n"
        assert emulator.state.creations == 1
        pulumi("preview", "--expect-no-changes")
        pulumi("destroy", "--yes", "--skip-preview")
        assert emulator.state.alive() == set()
