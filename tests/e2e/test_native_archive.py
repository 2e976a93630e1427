"""The native plugin from a release: an archive that needs no Python package to be installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import plugin_archive

import pulumi_fal
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN

from .files import Files
from .harness import Stack
from .installed import build
from .native import native

VERSION = pulumi_fal.__version__
INSTALL = ("plugin", "install", "resource", "fal", VERSION)
RELEASES = "github://api.github.com/fal-ai/pulumi-fal"
SLOW = pytest.mark.chaos(
    "e2e/test_native_install.py::test_without_the_plugin_its_archive_is_looked_for_in_the_releases"
)
"""Each installs everything that the plugin needs with pip: 20 s, and a package index."""


@pytest.fixture(scope="module")
def release(package_index: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archives of a release."""
    folder = tmp_path_factory.mktemp("release")
    plugin_archive.write(build("wheel", folder), folder)
    return folder


def live(stack: Stack, emulator: EmulatorServer) -> None:
    stack.up()
    assert {machine["id"] for machine in stack.resources(NATIVE_TYPE_TOKEN)} == set(
        emulator.state.alive()
    )
    assert emulator.state.creations == 1
    stack.destroy()
    assert emulator.state.alive() == set()


@SLOW
def test_an_archive_is_installed_from_a_file_again_if_the_first_try_failed(
    empty: Stack, emulator: EmulatorServer, release: Path
) -> None:
    """Where pip fails, Pulumi has no plugin, and the same command installs it later."""
    archive = str(release / plugin_archive.names(VERSION)[0])
    empty.write(native())
    no_index = {**empty.env, "PIP_NO_INDEX": "1"}
    with_index, empty.env = empty.env, no_index
    assert "No matching distribution" in empty.run(*INSTALL, "--file", archive, fails=True).output
    assert "TOTAL plugin cache size: 0 B" in empty.run("plugin", "ls").output
    empty.env = with_index
    empty.run(*INSTALL, "--file", archive)
    live(empty, emulator)


@SLOW
def test_an_archive_is_installed_from_a_server(
    empty: Stack, emulator: EmulatorServer, release: Path
) -> None:
    """A company can keep the archives on a server of its own."""
    empty.write(native())
    with Files(release) as server:
        empty.run(*INSTALL, "--server", server.url)
    assert [path.strip("/") in plugin_archive.names(VERSION) for path in server.asked] == [True]
    live(empty, emulator)


@SLOW
def test_a_program_with_an_sdk_installs_the_plugin_by_itself(
    empty: Stack, emulator: EmulatorServer, release: Path
) -> None:
    """`pulumi up` is all that is needed: the SDK says which version to take, and from where."""
    empty.write(native(opts=f"version={VERSION!r}, plugin_download_url={RELEASES!r}"))
    with Files(release) as server:
        empty.env["PULUMI_PLUGIN_DOWNLOAD_URL_OVERRIDES"] = f"^{RELEASES}$={server.url}"
        live(empty, emulator)
    assert len(server.asked) == 1
