"""`python -m pulumi_fal.emulator`, as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import requests

from pulumi_fal.emulator.__main__ import main
from pulumi_fal.machines import lifecycle

from ..fakes import ED25519, ONE

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "pulumi_fal.emulator", "--port", "0"]
BODY = {"instance_type": ONE, "ssh_key": ED25519}


@contextmanager
def running(
    *options: str, lines: int = 5, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The process and the lines with which it says where it listens."""
    inherited = {k: v for k, v in os.environ.items() if k != "FAL_ADMIN_API_KEY"}
    with subprocess.Popen(
        [*COMMAND, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, **environment},
    ) as process:
        assert process.stdout
        try:
            yield process, [process.stdout.readline().rstrip() for _ in range(lines)]
        finally:
            process.kill()


def assignment(name: str, value: str) -> str:
    """The line that sets the variable, in the shell of this system."""
    return f'$env:{name} = "{value}"' if os.name == "nt" else f"export {name}={value}"


def post(url: str, key: str) -> requests.Response:
    headers = {"Authorization": f"Key {key}"}
    return requests.post(f"{url}/compute/instance", json=BODY, headers=headers, timeout=10)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals that end another process")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_answers_and_ends_with_a_signal(end: signal.Signals) -> None:
    """The command prints three lines to paste and a line per request, and no traceback."""
    with running("--provisioning", "0") as (process, lines):
        url = lines[0].removeprefix("fal Compute emulator on ")
        *said, ssh = lines[1:]
        assert said == [
            "Any key is accepted; each sees its own machines.",
            assignment("FAL_COMPUTE_ENDPOINT", url),
            assignment("FAL_ADMIN_API_KEY", "emulator"),
        ]
        address = ssh.removeprefix("export FAL_COMPUTE_SSH_ADDRESS=")
        assert lifecycle.ssh_problem("198.18.0.1", address) is None
        assert post(url, "anything").json()["status"] == "ready"
        process.send_signal(end)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in errors
        (line,) = output.splitlines()
        assert "POST /compute/instance 200" in line


def test_the_key_of_the_environment_is_required_and_never_printed() -> None:
    """The key may be a real one."""
    with running(lines=4, FAL_ADMIN_API_KEY="s3cr3t") as (_, lines):
        url = lines[0].removeprefix("fal Compute emulator on ")
        assert lines[1] == "Only the key in this terminal's FAL_ADMIN_API_KEY is accepted."
        assert "s3cr3t" not in "".join(lines)
        assert post(url, "anything").status_code == 401
        assert post(url, "s3cr3t").status_code == 200


def test_faults_come_from_the_command_line() -> None:
    """Calls meet them in the order given."""
    with running("--fault", "create=429:retry_after=3", "--fault", "create=409") as (_, lines):
        url = lines[0].removeprefix("fal Compute emulator on ")
        first, second, third = (post(url, "key") for _ in range(3))
        assert (first.status_code, first.headers["Retry-After"]) == (429, "3")
        assert (second.status_code, third.status_code) == (409, 200)


def test_the_capacity_comes_from_the_command_line() -> None:
    """Creates beyond it are refused, until a control says otherwise."""
    with running("--capacity", "0") as (_, lines):
        url = lines[0].removeprefix("fal Compute emulator on ")
        assert post(url, "emulator").status_code == 400
        assert requests.post(f"{url}/_emulator/capacity", json={}, timeout=10).ok
        assert post(url, "emulator").status_code == 200


def test_a_taken_port_is_a_clear_sentence() -> None:
    """The sentence names the port and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            main(["--port", str(port)])
    # The reason is in the words of the system, which differ.
    assert re.fullmatch(
        rf"The emulator can't listen on 127\.0\.0\.1, port {port}: [^()]+\. "
        r"Choose another --port, or 0 for any free port\.",
        str(ended.value.code),
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "host.invalid"])
def test_the_error_of_an_address_elsewhere_is_not_about_the_port(host: str) -> None:
    """The advice is about the option that is wrong."""
    with pytest.raises(SystemExit, match=rf"on {host}, port 0: [^()]+\. Choose as --host"):
        main(["--port", "0", "--host", host])


@pytest.mark.parametrize(
    "option, value, problem",
    [
        ("--port", "65536", "65536 is no port; ports go from 0 to 65535"),
        ("--allow-host", "fal.example:8900", "'fal.example:8900' is no host's name"),
        ("--allow-host", "*", "'\\*' is no host's name"),
    ],
)
def test_a_port_or_name_that_can_not_be_is_refused(
    capsys: pytest.CaptureFixture[str], option: str, value: str, problem: str
) -> None:
    """The option is named, and nothing starts."""
    with pytest.raises(SystemExit):
        main([option, value])
    assert re.search(f"argument {option}: {problem}", capsys.readouterr().err)


@pytest.mark.parametrize("api, path", [("legacy", ""), ("v1", "/v1")])
def test_on_all_addresses_it_says_how_to_use_it_from_elsewhere(api: str, path: str) -> None:
    """The endpoint is one that a provider accepts here, and comments say what else is needed."""
    lines_at_start = 10 if api == "v1" else 9
    with running("--host", "0.0.0.0", "--api", api, lines=lines_at_start) as (_, lines):
        url = lines[0].removeprefix("fal Compute emulator on ")
        port = url.removeprefix("http://127.0.0.1:")
        assert port.isdigit()
        assert assignment("FAL_COMPUTE_ENDPOINT", url + path) in lines
        assert lines[-4:] == [
            "# It listens on 0.0.0.0. The provider uses plain http with loopback addresses only.",
            f"# On another computer, forward the port, and use the endpoint {url}{path}:",
            f"#     ssh -N -L {port}:127.0.0.1:{port} THIS_COMPUTER",
            "# In another container, share this one's network, as docs/emulator.md says.",
        ]
        name = {"Host": "fal.example", "Authorization": "Key key"}
        assert requests.get(f"{url}/", headers=name, timeout=10).status_code == 400


def test_a_name_can_be_allowed_on_the_command_line() -> None:
    """A proxy hands on the name that its own clients use."""
    with running("--allow-host", "fal.example", "--allow-host", "proxy") as (_, lines):
        url = lines[0].removeprefix("fal Compute emulator on ")
        for name in ("fal.example", "proxy", "127.0.0.1"):
            assert requests.get(f"{url}/", headers={"Host": name}, timeout=10).ok


def test_a_wrong_fault_ends_with_the_list_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong fault ends the command before anything starts."""
    with pytest.raises(SystemExit):
        main(["--fault", "create=418"])
    assert "create=418: there is no fault '418'; the faults are ok, " in capsys.readouterr().err


@pytest.mark.parametrize("module", ["fastapi", "uvicorn"])
def test_without_the_extra_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """The user sees one sentence and no traceback."""
    for name in [name for name in sys.modules if name.startswith("pulumi_fal.emulator.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    # What an import of a module that isn't installed raises.
    monkeypatch.setattr(sys, "meta_path", [_Without(module), *sys.meta_path])
    with pytest.raises(SystemExit, match=rf"needs {module}: pip install 'CLONE\[emulator\]'"):
        main([])


class _Without:
    def __init__(self, module: str) -> None:
        self.module = module

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
