"""Whether an SSH server greets, asked of real sockets on this computer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from pulumi_fal.machines import lifecycle

from ..sockets import serving

OPENSSH = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7\r\n"
NO_SSH = "what answers is no SSH server"


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[socket.socket], object]], str]:
    """Return the problem with a server that does this with each connection; "" if none."""

    def ask(answer: Callable[[socket.socket], object]) -> str:
        with serving(answer) as url:
            monkeypatch.setattr(lifecycle, "SSH_PORT", int(url.rpartition(":")[2]))
            return lifecycle.ssh_problem("127.0.0.1") or ""

    return ask


Ask = Callable[[Callable[[socket.socket], object]], str]


@pytest.mark.parametrize(
    "answer, problem",
    [
        (OPENSSH, ""),
        (b"SSH-1.99-anything", ""),
        (b"", NO_SSH),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", NO_SSH),
        (b"no SSH-2.0 here\r\n", NO_SSH),
        (b"Welcome.\r\n" + OPENSSH, NO_SSH),
    ],
)
def test_only_what_begins_as_ssh_does_is_a_greeting(ask: Ask, answer: bytes, problem: str) -> None:
    """An SSH server begins with its greeting."""
    assert ask(lambda connection: connection.sendall(answer)) == problem


def test_a_server_that_talks_without_end_is_left(ask: Ask) -> None:
    """Such a server costs 255 bytes."""

    def talk(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"x" * 1000)

    assert ask(talk) == NO_SSH


def test_a_server_that_says_nothing_is_left_after_a_time_limit(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall or a full server may accept a connection and then be silent."""
    monkeypatch.setattr(lifecycle, "_GREETING_SECONDS", 0.1)
    assert ask(lambda connection: connection.recv(1)) == "no answer within 0 s"


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_a_refused_connection_says_so_without_the_address(
    monkeypatch: pytest.MonkeyPatch, ip: str
) -> None:
    """A program may treat the ip as a secret."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setattr(lifecycle, "SSH_PORT", closed.getsockname()[1])
    reasons = ("Connection refused", "Cannot assign requested address")
    assert lifecycle.ssh_problem(ip) in reasons


def test_the_environment_names_another_address_for_emulated_machines() -> None:
    """Nothing runs at the ips of the emulator's machines."""
    with serving(lambda connection: connection.sendall(OPENSSH)) as url:
        address = url.removeprefix("http://")
        ask = lifecycle.chosen_greeting({"FAL_COMPUTE_SSH_ADDRESS": address})
        assert ask("198.18.0.1") is None
    # Who forgets the variable would look for the reason at the machine.
    where = "the address in FAL_COMPUTE_SSH_ADDRESS"
    assert ask("198.18.0.1") == f"Connection refused at {where}"
    with serving(lambda connection: None) as url:
        ask = lifecycle.chosen_greeting({"FAL_COMPUTE_SSH_ADDRESS": url.removeprefix("http://")})
        assert ask("198.18.0.1") == f"what answers at {where} is no SSH server"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:ssh", "[::1]"])
def test_an_invalid_address_is_named(address: str) -> None:
    """The wait goes on, and the row says what is wrong."""
    ask = lifecycle.chosen_greeting({"FAL_COMPUTE_SSH_ADDRESS": address})
    assert ask("198.18.0.1") == "FAL_COMPUTE_SSH_ADDRESS is not IP:PORT"


def test_an_attempt_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many machines are awaited in the threads that the engine's calls have anyway."""
    with serving(lambda connection: connection.sendall(OPENSSH)) as url:
        monkeypatch.setattr(lifecycle, "SSH_PORT", int(url.rpartition(":")[2]))
        with socket.create_connection(("127.0.0.1", lifecycle.SSH_PORT)):
            pass  # the server's own thread has started
        asking, started = threading.current_thread(), []
        start = threading.Thread.start

        def counted(thread: threading.Thread) -> None:
            if threading.current_thread() is asking:
                started.append(thread)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", counted)
        assert lifecycle.ssh_problem("127.0.0.1") is None
    assert started == []
