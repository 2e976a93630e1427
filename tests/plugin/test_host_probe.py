"""The probe of `pulumi-fal doctor`, which tries each seam into a real plugin process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pulumi import dynamic

from pulumi_fal.dynamic import host_probe, probe


def test_every_seam_applies_with_the_sdk_that_is_locked() -> None:
    """The SDK that is locked has every seam that the provider uses."""
    assert host_probe.probe_all() == dict.fromkeys(host_probe.WITHOUT, True)


class Bare(dynamic.ResourceProvider):
    """A provider that uses no seam."""

    serialize_as_secret_always = False

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> dynamic.CheckResult:
        return probe.Probe().check(_olds, news)

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        raise RuntimeError

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        return dynamic.ReadResult(id_, {"urn": "", "cancelled": False})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        raise RuntimeError


@pytest.mark.chaos
def test_a_seam_that_does_not_apply_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that uses no seam shows that the probe takes none for granted."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(probe, "Probe", Bare)
    monkeypatch.setattr(host_probe, "_TOGETHER_SECONDS", 0.2)
    monkeypatch.setattr(host_probe, "_SECONDS", 8)
    assert host_probe.probe_all() == dict.fromkeys(host_probe.WITHOUT, False)


def test_without_the_sdk_no_plugin_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a `pulumi` package the probe fails at once, and doesn't wait for the process."""
    (tmp_path / "pulumi").mkdir()
    (tmp_path / "pulumi" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(OSError, match="did not start"):
        host_probe.probe_all()
