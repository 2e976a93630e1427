"""Each way from docs/native-plugin.md in which the native plugin gets to the engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
import trustme
import yaml
from tools import plugin_archive

import pulumi_fal
from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.tokens import TYPE_TOKEN

from ..fakes import EIGHT, ONE
from .cli import pulumi_fal as run_pulumi_fal
from .harness import SSH_KEY, Stack, cli_path, machine
from .installed import ROOT, block, build, take_language_host
from .native import SDK, TYPE, NativeStack
from .servers import Files, GitServer

SCHEMA = ROOT / "provider" / "pulumi_fal" / "native" / "schema.json"
PLUGIN = Path(sys.executable).with_name("pulumi-resource-fal")
VERSION = pulumi_fal.__version__
INSTALL = ("plugin", "install", "resource", "fal", VERSION)
RELEASES = "github://api.github.com/fal-ai/pulumi-fal"


@pytest.fixture
def native(bare: Stack) -> Stack:
    """A stack of the native host whose engine finds no plugin yet."""
    bare.type, bare.header = TYPE, SDK
    bare.write(machine())
    return bare


def live(stack: Stack, emulator: EmulatorServer) -> None:
    """Create the machine and delete it."""
    stack.up()
    assert stack.state_ids() == emulator.state.alive()
    assert emulator.state.creations == 1
    stack.destroy()
    assert emulator.state.alive() == set()


def test_file(native: Stack, emulator: EmulatorServer) -> None:
    """One command installs the plugin from the package's own, which runs without a warning."""
    native.run(*INSTALL, "--file", str(PLUGIN))
    live(native, emulator)
    assert not any("warning" in run.output for run in native.runs)


@pytest.mark.chaos("e2e/test_native_install.py::test_file")
def test_on_path(stack: Stack) -> None:
    """Where an environment is activated, the plugin is on PATH, as it is for this `pulumi`."""
    (stack.project / "__main__.py").write_text(SDK + machine())
    preview = stack.preview()
    assert f"warning: using {PLUGIN.name} from $PATH at {PLUGIN}" in preview.output
    assert "+ 2 to create" in preview.output


def test_not_there(native: Stack) -> None:
    """A generated SDK says where its archive is, and `pulumi` asks for a file of a release."""
    url = json.loads(SCHEMA.read_text())["pluginDownloadURL"]
    native.write(machine(opts=f"version={VERSION!r}, plugin_download_url={url!r}"))
    with Files(native.folder / "empty") as server:
        # A mirror, as the docs set one.
        native.env["PULUMI_PLUGIN_DOWNLOAD_URL_OVERRIDES"] = f"^{url}$={server.url}"
        output = native.preview(fails=True).output
    assert f"pulumi plugin install resource fal v{VERSION} --server {url}" in output
    asked = {path.removeprefix("/") for path in server.asked}
    assert asked
    assert asked <= set(plugin_archive.names(VERSION))


@pytest.mark.chaos("e2e/test_native_install.py::test_import_file")
def test_move_from_python(stack: Stack, emulator: EmulatorServer) -> None:
    """An alias is all that it takes: one update, no call that touches the machine; it may go."""
    stack.write(machine())
    stack.up()
    calls = emulator.state.calls.copy()
    native = NativeStack(stack.folder, emulator.env)
    native.write(machine(opts=f"aliases=[pulumi.Alias(type_={TYPE_TOKEN!r})]"))
    moved = native.up()
    assert "warning" not in moved.output
    assert emulator.state.calls == calls
    assert native.state_ids() == emulator.state.alive()
    assert native.resources(TYPE_TOKEN) == []
    (row,) = native.resources()
    names = {**row["inputs"], **row["outputs"]}
    assert not {"__provider", "instance_type", "ssh_key"} & set(names)
    native.write(machine())
    native.up("--expect-no-changes")
    assert emulator.state.creations == 1


def test_import_file(native: Stack, emulator: EmulatorServer) -> None:
    """`pulumi-fal` writes the file for the import; the program that it prints shows no change."""
    made = {
        emulator.state.create(NewInstance(ONE, SSH_KEY)).id,
        emulator.state.create(NewInstance(EIGHT, SSH_KEY, "sector_2")).id,
    }
    file = native.project / "Pulumi.yaml"
    plugins = {"providers": [{"name": "fal", "path": str(PLUGIN.parent)}]}
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "plugins": plugins}))
    (native.project / "key.pub").write_text(f"{SSH_KEY}\n")
    shown = run_pulumi_fal(native, "import-file", "--type", "native", "--ssh-key", "key.pub")
    program = yaml.safe_load(shown[shown.index("variables:") :])
    lines = [
        f"ComputeInstance({name!r}, opts=ResourceOptions(protect=True), **{inputs!r})\n"
        for name, resource in program["resources"].items()
        for inputs in [{**resource["properties"], "sshKey": program["variables"]["sshKey"]}]
    ]
    native.write(*lines)
    native.run("import", "--file", "fal-import.json")
    assert native.state_ids() == made
    native.preview("--expect-no-changes")
    assert emulator.state.alive() == made


@pytest.mark.parametrize("source", ["command", pytest.param("folder", marks=pytest.mark.chaos)])
def test_schema(bare: Stack, source: str) -> None:
    """What `pulumi package add` generates SDKs from, and the engine finds nothing wrong with it.

    The folder is run by the language host of Python, which has installed its requirements.
    """
    path = PLUGIN
    if source == "folder":
        path = bare.folder / "plugin"
        shutil.copytree(ROOT / "plugin", path, ignore=shutil.ignore_patterns("venv"))
        # Pulumi's own language host runs `python -m venv` even if there is one, but not on a link.
        venv.create(path / "venv")
        (packages,) = (path / "venv").glob("lib/*/site-packages")
        paths = (sysconfig.get_path("purelib"), ROOT / "provider")
        (packages / "this.pth").write_text("".join(f"{folder}\n" for folder in paths))
        (path / "requirements.txt").write_text("")
        take_language_host(bare)
    result = bare.run("package", "get-schema", str(path))
    shown: dict[str, Any] = json.loads(result.output[result.output.index("{") :])
    assert shown["version"] == VERSION
    assert shown == json.loads(SCHEMA.read_text())


def test_schema_check(tmp_path: Path) -> None:
    """The schema can be published, or used to generate an SDK, without a plugin to complete it."""
    cli = str(shutil.which("pulumi", path=cli_path()))
    env = {"PATH": cli_path(), "PULUMI_HOME": str(tmp_path), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    command = [cli, "schema", "check", str(SCHEMA)]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# From a release, or from the repository

SLOW = pytest.mark.chaos("e2e/test_native_install.py::test_not_there")
"""Each installs everything that the plugin needs with pip: 20 s, and a package index."""


@pytest.fixture
def empty(package_index: None, native: Stack) -> Stack:
    """A stack with an empty PULUMI_HOME and no plugin on PATH. pip has the settings that it has."""
    take_language_host(native)
    native.env |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return native


@pytest.fixture(scope="module")
def release(package_index: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archives of a release."""
    folder = tmp_path_factory.mktemp("release")
    plugin_archive.write(build("wheel", folder), folder)
    return folder


@SLOW
def test_archive_file(empty: Stack, emulator: EmulatorServer, release: Path) -> None:
    """Where pip fails, Pulumi has no plugin, and the same command installs it later."""
    archive = str(release / plugin_archive.names(VERSION)[0])
    with_index, empty.env = empty.env, {**empty.env, "PIP_NO_INDEX": "1"}
    assert "No matching distribution" in empty.run(*INSTALL, "--file", archive, fails=True).output
    assert "TOTAL plugin cache size: 0 B" in empty.run("plugin", "ls").output
    empty.env = with_index
    empty.run(*INSTALL, "--file", archive)
    live(empty, emulator)


@SLOW
def test_archive_of_an_sdk(empty: Stack, emulator: EmulatorServer, release: Path) -> None:
    """`pulumi up` is all that is needed: the SDK says which version to take, and from where."""
    empty.write(machine(opts=f"version={VERSION!r}, plugin_download_url={RELEASES!r}"))
    with Files(release) as server:
        empty.env["PULUMI_PLUGIN_DOWNLOAD_URL_OVERRIDES"] = f"^{RELEASES}$={server.url}"
        live(empty, emulator)
    assert len(server.asked) == 1


@pytest.fixture
def address(empty: Stack, tmp_path: Path) -> Iterator[str]:
    """The address in the docs, of this checkout on a server of this computer, with its tag."""
    command = block("docs/native-plugin.md", "sh", "pulumi package add https://").strip()
    documented = command.removeprefix("pulumi package add ")
    owner_and_name = re.fullmatch(r"https://github\.com/(.+\.git)/plugin@[\d.]+", documented)
    assert owner_and_name is not None
    repository = tmp_path / owner_and_name[1]
    _git("init", "--quiet", str(repository))
    for name in _git("ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file() and not name.startswith("tests/"):  # they have keys
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, repository / name)
    _git("add", "--all", folder=repository)
    _git("commit", "--quiet", "--message", "The plugin", folder=repository)
    _git("tag", f"v{VERSION}", folder=repository)
    ca = trustme.CA()
    certificates = tmp_path / "certificates.pem"
    known = Path(certifi.where()).read_bytes()  # pip needs these
    certificates.write_bytes(known + ca.cert_pem.bytes())
    empty.env["SSL_CERT_FILE"] = str(certificates)
    try:
        server = GitServer(tmp_path, ca)
    except OSError as error:
        pytest.skip(f"port 443 of the loopback address can't be had: {error}")
    with server:
        yield documented.replace("github.com", "localhost")


GENERATED = f"""\
import pulumi_fal_sdk as fal

fal.ComputeInstance(
    "machine", instance_type=fal.InstanceType.GPU1X_H100_SXM5, ssh_key={SSH_KEY!r}
)
"""


@SLOW
def test_repository(empty: Stack, emulator: EmulatorServer, address: str) -> None:
    """Pulumi clones the tag, installs the package, and generates an SDK that finds the plugin."""
    result = empty.run("package", "get-schema", address)
    schema = json.loads(result.output[result.output.index("{") :])
    # Pulumi puts in where the plugin comes from, so that the SDK takes it from there as well.
    assert schema.pop("pluginDownloadURL") == address.partition("@")[0].replace("https:", "git:")
    schema.pop("namespace")
    assert schema.items() <= json.loads(SCHEMA.read_text()).items()
    if empty.cli.with_name("pulumi-language-go").exists():  # only official hosts generate SDKs
        options = "{toolchain: pip, virtualenv: venv}"
        file = empty.project / "Pulumi.yaml"
        file.write_text(f"name: test\nruntime: {{name: python, options: {options}}}\n")
        (empty.project / "requirements.txt").write_text("pulumi\n")
        (empty.project / "__main__.py").write_text(GENERATED)
        empty.run("package", "add", address)
        live(empty, emulator)


def _git(*args: str, folder: Path = ROOT) -> str:
    command = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com", *args)
    return subprocess.check_output(command, cwd=folder, text=True).strip()
