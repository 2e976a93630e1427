"""The wheel and the sdist, and environments that hold nothing but the wheel and what it needs.

wheel = build("wheel", folder)
env = Environment(folder)
env.make(wheel)   # and pytest
env.run("python", "-c", "import pulumi_fal")
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from typing_extensions import Self

from .harness import Stack, cli_path

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
LOCK = ROOT / "requirements" / "dev.txt"
NEEDS = ("click", "filelock", "grpcio", "protobuf", "pulumi", "requests", "rich", "urllib3")
EMULATOR = ("fastapi", "pydantic", "starlette", "uvicorn")
"""What the wheel needs, and its extra."""


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder with what `make` puts there, once for all processes of this test run."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / "made").touch()
    return folder


def build(kind: str, folder: Path, source: Path = ROOT) -> Path:
    """Build the `wheel` or the `sdist` of the source with the locked hatchling."""
    command = ("-m", "hatchling", "build", "--target", kind, "--directory", str(folder))
    subprocess.run([sys.executable, *command], cwd=source, check=True, capture_output=True)
    (built,) = folder.glob({"wheel": "*.whl", "sdist": "*.tar.gz"}[kind])
    return built


class Environment:
    """A virtual environment in `folder / "env"` with what `make` has installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "env" / "bin"

    def make(self, wheel: Path) -> None:
        """Install the locked versions, and the wheel.

        It skips the test if the packages that the wheel needs can't be installed."""
        run_uv("venv", "--quiet", "--python", sys.executable, self.bin.parent)
        install = ("pip", "install", "--quiet", "--python", self.bin / "python")
        needs = (*NEEDS, "pytest")
        there = run_uv(*install, "--constraints", LOCK, "--offline", *needs, check=False)
        if there.returncode:
            there = run_uv(*install, "--constraints", LOCK, *needs, check=False)
        if there.returncode:
            reason = there.stderr.splitlines()[0]
            pytest.skip(f"{', '.join(needs)} can't be installed here: {reason}")
        # Offline, so that it fails if the wheel needs anything else.
        run_uv(*install, "--offline", f"pulumi-fal @ {wheel.as_uri()}")

    def run(
        self,
        *command: str | Path,
        exit_code: int = 0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a program of the environment, or the CLI, away from the sources; its output."""
        program = shutil.which(command[0], path=self.path)
        assert program, f"{command[0]} is not on {self.path}"
        result = subprocess.run(
            [program, *command[1:]],
            cwd=cwd or self.folder,
            env={"PATH": self.path, "HOME": str(self.folder), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(f"$ {' '.join(map(str, command))}\n{result.stdout}")
        assert result.returncode == exit_code
        return result.stdout

    @property
    def path(self) -> str:
        """PATH as in the activated environment, with the CLI that the tests use."""
        return os.pathsep.join((str(self.bin), cli_path()))


def take_language_host(stack: Stack) -> None:
    """Have the stack use this checkout's language host: another may have cached its own."""
    if not stack.cli.with_name("pulumi-language-go").exists():  # not the official bundle
        shutil.copy(ROOT / "tools" / "pulumi-cli" / "pulumi-language-python", stack.folder / "bin")


def run_uv(*args: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([UV, *args], capture_output=True, text=True, check=False)
    assert not (check and result.returncode), result.stderr
    return result


class Files:
    """Serves a folder on a port of the loopback address while it is entered."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        """The paths that were asked for."""
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                asked.append(self.path)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
