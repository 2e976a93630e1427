"""Run a command on all machines of the cluster at the same time.

The exit code is that of the first machine where the command failed, or else 0.
"""

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path


def main(command: str) -> int:
    printed = subprocess.check_output(["pulumi", "stack", "output", "--json"])
    outputs = json.loads(printed)
    if outputs.get("sshConfig") is None:
        sys.exit("Not all machines have an ip yet: run `pulumi up` or `pulumi refresh` first.")
    with tempfile.TemporaryDirectory() as folder:
        ssh_config = Path(folder) / "ssh_config"
        ssh_config.write_text(outputs["sshConfig"])
        running = []
        for number, arguments in enumerate(outputs["torchrun"]):
            line = f"export TORCHRUN={shlex.quote(arguments)}; {command}"
            running.append(subprocess.Popen(["ssh", "-F", ssh_config, f"node-{number}", line]))
        try:
            exit_codes = [process.wait() for process in running]
        except KeyboardInterrupt:
            sys.exit("Interrupted. The command may still run on the machines.")
    return next((code for code in exit_codes if code != 0), 0)


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
