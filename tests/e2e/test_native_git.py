"""The native plugin from the repository: `pulumi package add URL`, as the docs print it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
import trustme

import pulumi_fal
from pulumi_fal.emulator.server import EmulatorServer

from .git_server import GitServer
from .harness import SSH_KEY, Stack
from .installed import ROOT, block
from .test_native_archive import SLOW

SCHEMA = ROOT / "provider" / "pulumi_fal" / "native" / "schema.json"


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
    _git("tag", f"v{pulumi_fal.__version__}", folder=repository)
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


PROGRAM = f"""\
import pulumi_fal_sdk as fal

fal.ComputeInstance(
    "machine", instance_type=fal.InstanceType.GPU1X_H100_SXM5, ssh_key={SSH_KEY!r}
)
"""


@SLOW
def test_pulumi_takes_the_plugin_from_the_repository(
    empty: Stack, emulator: EmulatorServer, address: str
) -> None:
    """It clones the tag, installs the package, and generates an SDK that finds the plugin there."""
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
        (empty.project / "__main__.py").write_text(PROGRAM)
        empty.run("package", "add", address)
        empty.up()
        assert len(emulator.state.alive()) == 1
        empty.destroy()


def _git(*args: str, folder: Path = ROOT) -> str:
    command = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com", *args)
    return subprocess.check_output(command, cwd=folder, text=True).strip()
