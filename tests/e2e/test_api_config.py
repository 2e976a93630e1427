"""The API in a stack's config: which command is the first to use another one."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import Stack


def apis(emulator: EmulatorServer) -> set[str | None]:
    """The APIs of the requests since the last look."""
    used = {call.api for call in emulator.log}
    emulator.log.clear()
    return used


@pytest.mark.chaos("unit/test_v1.py::test_refresh")
def test_a_change_of_the_api_in_config_needs_run_program_to_be_refreshed(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """A plain refresh uses the config that the last `up` saved, as docs/api-versions.md says."""
    for name in ("FAL_COMPUTE_API", "FAL_COMPUTE_ENDPOINT"):
        del stack.env[name]
    stack.config("fal:endpoint", emulator.url)
    stack.up()
    assert apis(emulator) == {"legacy"}
    stack.config("fal:api", "v1")
    stack.config("fal:endpoint", f"{emulator.url}/v1")
    stack.refresh()
    assert apis(emulator) == {"legacy"}
    stack.refresh("--run-program")
    assert apis(emulator) == {"v1"}
    (row,) = stack.resources()
    assert (row["outputs"]["region"], row["outputs"]["endpoint"]) == (
        "us-west",
        f"{emulator.url}/v1",
    )
    stack.up("--expect-no-changes")
    stack.destroy()
    assert apis(emulator) == {"v1"}
    assert (emulator.state.creations, emulator.state.alive()) == (1, set())
