"""`python -m pulumi_fal.emulator`, and the fixture `fal_emulator`, in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from pulumi_fal.emulator import INSTALL
from pulumi_fal.emulator.__main__ import main
from pulumi_fal.machines import lifecycle

from ..fakes import ED25519, ONE

Running = tuple[subprocess.Popen[str], str, list[str]]


@contextmanager
def running(*options: str, lines: int = 5, **environment: str) -> Iterator[Running]:
    """The process, the URL of its first line, and the other lines that it begins with."""
    inherited = {k: v for k, v in os.environ.items() if k != "FAL_ADMIN_API_KEY"}
    with subprocess.Popen(
        [sys.executable, "-m", "pulumi_fal.emulator", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, **environment},
    ) as process:
        assert process.stdout
        try:
            first, *more = [process.stdout.readline().rstrip() for _ in range(lines)]
            yield process, first.removeprefix("fal Compute emulator on "), more
        finally:
            process.kill()


ASSIGNMENT = '$env:{} = "{}"' if os.name == "nt" else "export {}={}"


def post(url: str, key: str = "key", **headers: str) -> requests.Response:
    headers["Authorization"] = f"Key {key}"
    body = {"instance_type": ONE, "ssh_key": ED25519}
    return requests.post(f"{url}/compute/instance", json=body, headers=headers, timeout=10)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals that end another process")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_run(end: signal.Signals) -> None:
    """The command prints lines to paste and a line per request, and a signal ends it quietly."""
    options = ("--provisioning", "0")
    with running(*options, FAL_COMPUTE_PRICES=f"{ONE}=7") as (process, url, (*said, ssh)):
        assert said == [
            "Any key is accepted; each sees its own machines.",
            ASSIGNMENT.format("FAL_COMPUTE_ENDPOINT", url),
            ASSIGNMENT.format("FAL_ADMIN_API_KEY", "emulator"),
        ]
        address = ssh.removeprefix("export FAL_COMPUTE_SSH_ADDRESS=")
        assert lifecycle.ssh_problem("198.18.0.1", address) is None
        assert post(url).json()["status"] == "ready"
        report = requests.get(f"{url}/_emulator/report", timeout=10).json()
        assert (report["exports"].split("\n"), report["url"]) == ([*said[1:], ssh], url)
        assert report["cost"]["per_hour"] == 7
        process.send_signal(end)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in errors) == (0, False)
        (line,) = output.splitlines()
        assert "POST /compute/instance 200" in line


def test_options() -> None:
    """Calls need the key in the environment, which may be a real one and is never printed.

    They meet the faults in the order given, then the capacity. Both names can be used.
    """
    faults = ("--fault", "create=429:retry_after=3", "--fault", "create=409")
    hosts = ("--allow-host", "fal.example", "--allow-host", "proxy")
    options = (*faults, *hosts, "--capacity", "1")
    with running(*options, lines=4, FAL_ADMIN_API_KEY="s3cr3t") as (_, url, lines):
        assert lines[0] == "Only the key in this terminal's FAL_ADMIN_API_KEY is accepted."
        assert "s3cr3t" not in "".join(lines)
        assert post(url).status_code == 401
        names = ("fal.example", "proxy", "127.0.0.1", "proxy")
        answers = [post(url, "s3cr3t", Host=name) for name in names]
        assert [answer.status_code for answer in answers] == [429, 409, 200, 400]
        assert answers[0].headers["Retry-After"] == "3"
        assert "no capacity left" in answers[3].text


@pytest.mark.parametrize("api, path, lines", [("legacy", "", 9), ("v1", "/v1", 10)])
def test_all_addresses(api: str, path: str, lines: int) -> None:
    """The endpoint is one that a provider accepts here, and comments say what else is needed."""
    with running("--host", "0.0.0.0", "--api", api, lines=lines) as (_, url, said):
        port = url.removeprefix("http://127.0.0.1:")
        assert port.isdigit()
        assert ASSIGNMENT.format("FAL_COMPUTE_ENDPOINT", url + path) in said
        assert (ASSIGNMENT.format("FAL_COMPUTE_API", "v1") in said) is (api == "v1")
        assert said[-4:] == [
            "# It listens on 0.0.0.0. The provider uses plain http with loopback addresses only.",
            f"# On another computer, forward the port, and use the endpoint {url}{path}:",
            f"#     ssh -N -L {port}:127.0.0.1:{port} THIS_COMPUTER",
            "# In another container, share this one's network, as docs/emulator.md says.",
        ]


def test_taken_port() -> None:
    """The sentence names the port and the way out. Its reason is in the words of the system."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = str(server.getsockname()[1])
        said = rf"^The emulator can't listen on 127\.0\.0\.1, port {taken}: [^()]+\. Choose another"
        with pytest.raises(SystemExit, match=said):
            main(["--port", taken])


@pytest.mark.parametrize(
    "option, value, problem",
    [
        ("--port", "65536", "65536 is no port; ports go from 0 to 65535"),
        ("--port", "abc", "abc is no port"),
        ("--allow-host", "fal.example:8900", "'fal.example:8900' is no host's name"),
        ("--allow-host", "*", "'\\*' is no host's name"),
        ("--fault", "create=418", "create=418: there is no fault '418'; the faults are ok, "),
        ("--prices", f"{ONE}=cheap", "FAL_COMPUTE_PRICES .* must have one price an hour"),
    ],
)
def test_wrong_option(
    capsys: pytest.CaptureFixture[str], option: str, value: str, problem: str
) -> None:
    """The option is named, and nothing starts."""
    with pytest.raises(SystemExit):
        main([option, value])
    assert re.search(f"argument {option}: {problem}", capsys.readouterr().err)


@pytest.mark.parametrize("module", ["fastapi", "uvicorn"])
def test_without_extra(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """The user sees one sentence and no traceback."""
    for name in ("server", "app", "calls"):
        monkeypatch.delitem(sys.modules, f"pulumi_fal.emulator.{name}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == f"The emulator needs {module}. To install it:\n  {INSTALL}"


# The fixture `fal_emulator`; tests/e2e/test_examples.py has it as a user does.


FIXTURE = """
import os
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import resolve

def test_during(fal_emulator):
    settings = resolve(os.environ, lambda key: None)
    assert (settings.endpoint, settings.poll_interval) == (fal_emulator.url, 0.1)
    assert settings.settle_seconds == settings.absence_seconds == 1
    fal_emulator.state.create(NewInstance("gpu_1x_h100_sxm5", "key"))
    assert len(Client(settings).list_instances()) == 1

def test_after():
    assert not {"FAL_COMPUTE_ENDPOINT", "FAL_COMPUTE_POLL_INTERVAL"} & set(os.environ)
"""


def test_fixture(tmp_path: Path) -> None:
    """The environment leads to the emulator while the test runs, which can script it."""
    (tmp_path / "test_mine.py").write_text(FIXTURE)
    without = ("-p", "no:schemathesis")  # importing it takes longer than all else
    command = [sys.executable, "-m", "pytest", *without, "-q", f"--rootdir={tmp_path}", "."]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in result.stdout, result.stderr
