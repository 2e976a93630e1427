"""Runs the example quickstart. Pulumi.yaml beside this file explains why it is run from here."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parent / "examples" / "quickstart" / "__main__.py"))
