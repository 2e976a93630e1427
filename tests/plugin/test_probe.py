"""What `pulumi-fal doctor` learns from a real plugin process about the installed SDK."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulumi_fal.dynamic import probe

from .test_seams import LAUNCHER, SEAMS, WITHOUT_URN

URN, CALLS, PARTIAL, LOG, TRACEBACK, IMPORT, CANCEL, DEATH = probe.WITHOUT
MISSING = {
    "none is off": set(),
    WITHOUT_URN: {URN, PARTIAL},
    "another thread pool": {CALLS},
    "no trailing metadata": {PARTIAL},
    "another Cancel": {CANCEL},
    "no Cancel": set(),  # the method of the base class is patched
    "another get_provider": {IMPORT},
    "no engine": {LOG},
    "another traceback": {TRACEBACK},
}
"""What a plugin process lacks whose SDK was changed, by the name of the change."""
QUICK = ("none is off", WITHOUT_URN)


@pytest.mark.parametrize(
    "seam",
    [pytest.param(seam, marks=() if seam in QUICK else pytest.mark.chaos) for seam in SEAMS],
)
def test_the_features_that_the_sdk_lacks_are_found_and_no_others(
    seam: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each patch knows whether it applied; the locked SDK lacks nothing."""
    host = tmp_path / "host.py"
    host.write_text(LAUNCHER.format(change=SEAMS[seam]))
    monkeypatch.setattr(probe, "_HOST", (str(host),))
    missing = {feature for feature, works in probe.applied_patches().items() if not works}
    assert missing == MISSING[seam]


def test_without_the_sdk_no_plugin_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a `pulumi` package the probe fails at once, and doesn't wait for the process."""
    (tmp_path / "pulumi").mkdir()
    (tmp_path / "pulumi" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(OSError, match="did not start"):
        probe.applied_patches()
