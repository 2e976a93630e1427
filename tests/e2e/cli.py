"""`pulumi-fal` as a user runs it in a stack's folder."""

from __future__ import annotations

import subprocess
import sys

from .harness import SECONDS, Stack


def pulumi_fal(stack: Stack, *args: str, code: int = 0, stderr: bool = False) -> str:
    """Run it and return its stdout, or all of its output with `stderr`.

    It must end with that exit code and without a traceback.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "pulumi_fal.cli", *args],
        cwd=stack.project,
        env=stack.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    output = ended.stdout + ended.stderr
    print(f"$ pulumi-fal {' '.join(args)}\n{output}[exit code {ended.returncode}]")
    assert ended.returncode == code
    assert "Traceback (most recent call last)" not in output
    for name in ("FAL_ADMIN_API_KEY", "PULUMI_CONFIG_PASSPHRASE"):
        assert stack.env.get(name, "\0") not in output
    return output if stderr else ended.stdout
