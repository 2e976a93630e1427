"""Each way from docs/native-plugin.md in which the native plugin gets to the engine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import plugin_archive

import pulumi_fal
from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import EIGHT, ONE
from .cli import pulumi_fal as run_pulumi_fal
from .files import Files
from .harness import SSH_KEY, Stack, cli_path, machine
from .installed import ROOT, take_language_host
from .native import native

SCHEMA = ROOT / "provider" / "pulumi_fal" / "native" / "schema.json"
PLUGIN = Path(sys.executable).with_name("pulumi-resource-fal")


def name_in_project(stack: Stack, folder: Path) -> None:
    """Have Pulumi.yaml say where the plugin is."""
    file = stack.project / "Pulumi.yaml"
    project = yaml.safe_load(file.read_text())
    project["plugins"] = {"providers": [{"name": "fal", "path": str(folder)}]}
    file.write_text(yaml.safe_dump(project, sort_keys=False))


def ids(stack: Stack) -> set[str]:
    return {resource["id"] for resource in stack.resources(NATIVE_TYPE_TOKEN)}


def test_the_engine_takes_the_plugin_from_a_file(bare: Stack, emulator: EmulatorServer) -> None:
    """One command installs the plugin, which then runs without a warning."""
    bare.write(native())
    version = pulumi_fal.__version__
    bare.run("plugin", "install", "resource", "fal", version, "--file", str(PLUGIN))
    up = bare.up()
    assert "warning" not in up.output
    assert ids(bare) == emulator.state.alive()
    assert bare.outputs()["machine"]["ip"] == emulator.state.list()[0].ip
    bare.destroy()
    assert emulator.state.alive() == set()


@pytest.mark.chaos("e2e/test_native_install.py::test_machines_are_imported_as_native_ones")
def test_a_stack_moves_from_python_to_the_native_plugin(
    bare: Stack, emulator: EmulatorServer
) -> None:
    """Pulumi.yaml names the plugin's folder. An alias keeps the machine, and then may go."""
    bare.write(machine())
    bare.up()
    name_in_project(bare, PLUGIN.parent)
    bare.write(native(opts=f"aliases=[pulumi.Alias(type_={TYPE_TOKEN!r})]"))
    moved = bare.up()
    assert "warning" not in moved.output
    assert ids(bare) == emulator.state.alive()
    assert bare.resources(TYPE_TOKEN) == []
    bare.write(native())
    bare.preview("--expect-no-changes")
    assert emulator.state.creations == 1


def test_machines_are_imported_as_native_ones(bare: Stack, emulator: EmulatorServer) -> None:
    """`pulumi-fal` writes the file for the import; the program that it prints shows no change."""
    made = {
        emulator.state.create(NewInstance(ONE, SSH_KEY)).id,
        emulator.state.create(NewInstance(EIGHT, SSH_KEY, "sector_2")).id,
    }
    name_in_project(bare, PLUGIN.parent)
    (bare.project / "key.pub").write_text(f"{SSH_KEY}\n")
    shown = run_pulumi_fal(bare, "import-file", "--type", "native", "--ssh-key", "key.pub")
    program = yaml.safe_load(shown[shown.index("variables:") :])
    lines = [
        native(
            f"box{number}",
            opts="protect=True",
            **{**resource["properties"], "sshKey": program["variables"]["sshKey"]},
        ).replace(f"'box{number}'", repr(name), 1)
        for number, (name, resource) in enumerate(program["resources"].items())
    ]
    bare.write(*lines)
    bare.run("import", "--file", "fal-import.json")
    assert ids(bare) == made
    bare.preview("--expect-no-changes")
    assert emulator.state.alive() == made
    run_pulumi_fal(bare, "audit")


def test_a_plugin_on_path_works_with_a_warning(stack: Stack) -> None:
    """Where an environment is activated, the plugin is on PATH, as it is for this `pulumi`."""
    stack.write(native())
    preview = stack.preview()
    assert f"warning: using {PLUGIN.name} from $PATH at {PLUGIN}" in preview.output
    assert "+ 2 to create" in preview.output


def test_without_the_plugin_its_archive_is_looked_for_in_the_releases(bare: Stack) -> None:
    """A generated SDK says where. `pulumi` then asks for the file that a release has."""
    url = json.loads(SCHEMA.read_text())["pluginDownloadURL"]
    options = f"version={pulumi_fal.__version__!r}, plugin_download_url={url!r}"
    bare.write(native(opts=options))
    with Files(bare.folder / "empty") as server:
        # A mirror, as the docs set one.
        bare.env["PULUMI_PLUGIN_DOWNLOAD_URL_OVERRIDES"] = f"^{url}$={server.url}"
        output = bare.preview(fails=True).output
    assert f"pulumi plugin install resource fal v{pulumi_fal.__version__} --server {url}" in output
    asked = {path.removeprefix("/") for path in server.asked}
    assert asked
    assert asked <= set(plugin_archive.names(pulumi_fal.__version__))


@pytest.mark.parametrize("source", ["command", "folder"])
def test_the_engine_reads_the_schema(bare: Stack, source: str) -> None:
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
    assert shown["version"] == pulumi_fal.__version__
    assert shown == json.loads(SCHEMA.read_text())


def test_pulumi_finds_nothing_wrong_with_the_schema_as_it_is_in_the_repository(
    tmp_path: Path,
) -> None:
    """The schema can be published, or used to generate an SDK, without a plugin to complete it."""
    cli = str(shutil.which("pulumi", path=cli_path()))
    env = {"PATH": cli_path(), "PULUMI_HOME": str(tmp_path), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    command = [cli, "schema", "check", str(SCHEMA)]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
