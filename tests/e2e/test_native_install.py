"""Each way from docs/native-plugin.md in which the native plugin gets to the engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import plugin_archive

import pulumi_fal
from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.tokens import TYPE_TOKEN

from ..fakes import EIGHT, ONE
from .harness import SSH_KEY, Stack, cli_path, machine
from .harness import pulumi_fal as run_pulumi_fal
from .installed import ROOT, Files, build, take_language_host
from .native import SDK, TYPE, NativeStack

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


def test_install(native: Stack, emulator: EmulatorServer) -> None:
    """`pulumi` says where a missing plugin's archive is, or takes the package's own command.

    With it, machines are imported by the file that `pulumi-fal` writes; the program that it prints
    shows no change.
    """
    url = json.loads(SCHEMA.read_text())["pluginDownloadURL"]
    native.write(machine(opts=f"version={VERSION!r}, plugin_download_url={url!r}"))
    mirror = "PULUMI_PLUGIN_DOWNLOAD_URL_OVERRIDES"
    with Files(native.folder / "empty") as server:
        native.env[mirror] = f"^{url}$={server.url}"  # as the docs set one
        output = native.preview(fails=True).output
    assert f"pulumi plugin install resource fal v{VERSION} --server {url}" in output
    asked = {path.removeprefix("/") for path in server.asked}
    assert asked
    assert asked <= set(plugin_archive.names(VERSION))

    del native.env[mirror]
    installed = native.run(*INSTALL, "--file", str(PLUGIN))
    made = {
        emulator.state.create(NewInstance(ONE, SSH_KEY)).id,
        emulator.state.create(NewInstance(EIGHT, SSH_KEY, "sector_2")).id,
    }
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
    unchanged = native.preview("--expect-no-changes")
    assert "warning" not in installed.output + unchanged.output
    assert emulator.state.alive() == made


CLUSTER = f"ComputeCluster('train', size={{}}, ssh_key={SSH_KEY!r})\n"


@pytest.mark.chaos("e2e/test_native_install.py::test_install")
def test_move_from_python(stack: Stack, emulator: EmulatorServer) -> None:
    """An alias is all that it takes, and for a cluster not even that. No machine is touched."""
    stack.write(machine(), CLUSTER.format(2))
    stack.up()
    calls = emulator.state.calls.copy()
    native = NativeStack(stack.folder, emulator.env)
    native.write(machine(opts=f"aliases=[pulumi.Alias(type_={TYPE_TOKEN!r})]"), CLUSTER.format(2))
    moved = native.up()
    assert "warning" not in moved.output
    assert emulator.state.calls == calls
    assert native.state_ids() == emulator.state.alive()
    assert native.resources(TYPE_TOKEN) == []
    for row in native.resources():
        assert not {"__provider", "instance_type", "ssh_key"} & {*row["inputs"], *row["outputs"]}
    native.write(machine(), CLUSTER.format(3))  # the alias may go, and the cluster grow
    assert "+ 1 created" in native.up().output
    assert len({machine.sector for machine in emulator.state.existing()} - {None}) == 1
    assert emulator.state.creations == 4


def test_schema(bare: Stack) -> None:
    """What `pulumi package add` generates SDKs from, and the engine finds nothing wrong with it."""
    result = bare.run("package", "get-schema", str(PLUGIN))
    shown: dict[str, Any] = json.loads(result.output[result.output.index("{") :])
    assert shown["version"] == VERSION
    # An older engine leaves out what it does not know.
    newer = ("configurationDocsUrl", "validateCredentialsOnNew")
    known = json.loads(SCHEMA.read_text())
    assert shown == {name: known[name] for name in known if name in shown or name not in newer}


def test_schema_check(tmp_path: Path) -> None:
    """The schema can be published, or used to generate an SDK, without a plugin to complete it."""
    cli = str(shutil.which("pulumi", path=cli_path()))
    env = {"PATH": cli_path(), "PULUMI_HOME": str(tmp_path), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    command = [cli, "schema", "check", str(SCHEMA)]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# From a release


@pytest.mark.chaos("e2e/test_native_install.py::test_install")
def test_archive(
    package_index: None, native: Stack, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """`pulumi up` is all that is needed: the SDK says which version to take, and from where.

    It installs what the plugin needs with pip, and does so later where that fails.
    """
    take_language_host(native)
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    release = tmp_path / "release"
    plugin_archive.write(build("wheel", release), release)
    native.write(machine(opts=f"version={VERSION!r}, plugin_download_url={RELEASES!r}"))
    with Files(release) as server:
        native.env["PULUMI_PLUGIN_DOWNLOAD_URL_OVERRIDES"] = f"^{RELEASES}$={server.url}"
        native.env |= {**pip, "PIP_NO_INDEX": "1"}
        assert "No matching distribution" in native.up(fails=True).output
        del native.env["PIP_NO_INDEX"]
        native.env |= pip
        native.up()
    assert native.state_ids() == emulator.state.alive() != set()
