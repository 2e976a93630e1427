"""`pulumi-fal` as a person runs it in a stack's folder."""

from __future__ import annotations

import subprocess
import sys

from .harness import Stack


def pulumi_fal(stack: Stack, *args: str, code: int = 0) -> str:
    """What it prints on stdout; its exit code must be that. A traceback is never right."""
    ended = subprocess.run(
        [sys.executable, "-m", "pulumi_fal.cli", *args],
        cwd=stack.project,
        env=stack.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    output = ended.stdout + ended.stderr
    print(f"$ pulumi-fal {' '.join(args)}\n{output}[exit code {ended.returncode}]")
    assert ended.returncode == code
    assert "Traceback (most recent call last)" not in output
    for name in ("FAL_ADMIN_API_KEY", "PULUMI_CONFIG_PASSPHRASE"):
        assert stack.env.get(name, "\0") not in output
    return ended.stdout
