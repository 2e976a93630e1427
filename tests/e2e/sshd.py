"""OpenSSH's server and client, in the place of those of real machines."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from pathlib import Path

from .harness import SSH_KEY, wait_until

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin") or ""
"""The server's command, or "" where it is not installed."""


class LocalShell:
    """An `ssh` without a server: it runs each command here, as on the machine with that address.

    Such a command outlives the `ssh`, and has a home folder of its own, in `home`.
    """

    public_key = SSH_KEY

    def __init__(self, folder: Path) -> None:
        self.home, self.path = folder / "home", folder / "bin"
        self.path.mkdir(parents=True)
        client = self.path / "ssh"
        client.write_text(
            f"""#!/bin/bash
host=$({shutil.which("ssh")} -G "${{@:1:$#-1}}" | sed -n 's/^hostname //p')
export HOME={self.home}/$host
mkdir -p $HOME && cd $HOME && exec setsid --wait bash -c "${{@: -1}}"
"""
        )
        client.chmod(0o755)

    def start(self) -> None: ...

    def end(self) -> None: ...


class Sshd:
    """OpenSSH's server on all loopback addresses, for whoever runs the tests, and a client for it.

    The server runs from `start` to `end`. `path` has an `ssh` that differs from the user's in port,
    user and key alone. `public_key` is the key that may log in, and `home` has the home folder of
    each address.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.key = folder / "id_ed25519"
        for file in (self.key, folder / "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
        self.public_key = self.key.with_suffix(".pub").read_text().strip()
        (folder / "authorized_keys").write_text(self.public_key)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.home = folder / "home"
        self.home.mkdir()
        self._config = folder / "sshd_config"
        self._config.write_text(
            f"Port {self.port}\nListenAddress 0.0.0.0\nHostKey {folder}/host_key\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
            f"PidFile none\nAllowUsers {getpass.getuser()}\nPasswordAuthentication no\n"
            f"ForceCommand exec {folder}/shell\n"
        )
        shell = folder / "shell"
        shell.write_text(
            f"#!/bin/bash\nset -- $SSH_CONNECTION\nexport HOME={self.home}/$3\n"
            'mkdir -p "$HOME" && cd "$HOME" && exec bash -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        shell.chmod(0o755)
        self.path = folder / "bin"
        self.path.mkdir()
        client = self.path / "ssh"
        client.write_text(
            f"#!/bin/sh\nexec {shutil.which('ssh')} -p {self.port} -l {getpass.getuser()} "
            f'-i {self.key} -o UserKnownHostsFile={folder}/known_hosts "$@"\n'
        )
        client.chmod(0o755)

    def start(self) -> None:
        """Start the server, and return when it listens."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where root's sshd separates privileges
        with (self._folder / "log").open("wb") as log:
            command = [SSHD, "-D", "-e", "-f", str(self._config)]
            self._process = subprocess.Popen(command, stderr=log)
        wait_until(lambda: b"listening" in (self._folder / "log").read_bytes())

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
