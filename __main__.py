"""Runs examples/quickstart, which Pulumi.yaml beside this file says why."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parent / "examples" / "quickstart" / "__main__.py"))
