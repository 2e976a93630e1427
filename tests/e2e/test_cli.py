"""`ls`, `delete`, `audit` and `import-file` with the real `pulumi`; tests/unit has their output."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT, ONE
from .cli import pulumi_fal
from .harness import SECONDS, SSH_KEY, Stack
from .recovery import PATIENCE, kill_while_waiting

CI = Path(__file__).parents[2] / "docs" / "ci.md"


@pytest.mark.chaos("unit/test_cli_audit.py::test_it_finds_exactly_the_machines_that_were_forgotten")
def test_audit_finds_exactly_the_machines_that_no_stack_has(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """`audit` reads all stacks of the backend. If one can't be read, its machines are unknown."""
    dev = stack
    prod, test = (Stack(stack.folder, emulator.env, name=name) for name in ("prod", "test"))
    dev.up()
    for other in (prod, test):
        made = emulator.state.create(NewInstance(ONE, SSH_KEY)).id
        (id_,) = dev.state_ids()
        text = dev.state_file.read_text().replace(id_, made)
        text = text.replace("urn:pulumi:dev::", f"urn:pulumi:{other.name}::")
        text = text.replace("/test/dev", f"/test/{other.name}")
        other.state_file.write_text(text)
    assert len(dev.state_ids() | prod.state_ids() | test.state_ids()) == 3
    aged = json.loads(pulumi_fal(dev, "audit", "--max-age", "1h", "--json"))
    assert all(0 <= row["age_seconds"] < 3600 for row in aged["machines"])

    left = emulator.state.create(NewInstance(ONE, SSH_KEY)).id
    dropped = test.state_ids()
    test.run("state", "delete", test.resources()[0]["urn"], "--yes")
    (gone,) = prod.state_ids()
    emulator.state.kill(gone)
    names = [f"organization/test/{name}" for name in ("dev", "prod", "test")]
    report = json.loads(pulumi_fal(dev, "audit", "--json", code=1))
    assert {row["id"]: row["whose"] for row in report["machines"]} == {
        **dict.fromkeys({left, *dropped}, "forgotten"),
        **dict.fromkeys(dev.state_ids(), "stack"),
    }
    assert [row["id"] for row in report["gone"]] == [gone]
    assert report["stacks"] == names
    assert report["unreadable"] == {}

    test.state_file.write_text(test.state_file.read_text()[:-100])
    assert pulumi_fal(dev, "audit", code=2) == ""  # a file backend has no list then
    named = [option for name in names for option in ("--stack", name)]
    report = json.loads(pulumi_fal(dev, "audit", "--json", *named, code=1))
    assert {row["id"]: row["whose"] for row in report["machines"]} == {
        **dict.fromkeys({left, *dropped}, "unknown"),
        **dict.fromkeys(dev.state_ids(), "stack"),
    }
    assert list(report["unreadable"]) == [f"stack {names[2]}"]


def test_a_fleet_is_imported_from_a_file_without_a_change_and_then_destroyed(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """The command and the program are those that `import-file` prints.

    The machines are protected until an `up` of the program says that they need no protection.
    """
    (stack.project / "key.pub").write_text(f"{SSH_KEY}\n")
    kinds = [(ONE, None), (EIGHT, "sector_2"), (EIGHT, None)]
    fleet = {emulator.state.create(NewInstance(kind, SSH_KEY, sector)).id for kind, sector in kinds}
    shown = pulumi_fal(stack, "import-file", "--ssh-key", "key.pub", "--pin-sectors")
    assert "  pulumi import --file fal-import.json --generate-code=false\n" in shown
    (stack.project / "__main__.py").write_text(shown[shown.index("from pathlib") :])

    stack.run("import", "--file", "fal-import.json")
    assert stack.state_ids() == fleet
    stack.preview("--expect-no-changes")
    stack.refresh("--expect-no-changes")
    assert "nothing to import" in pulumi_fal(stack, "import-file", "--ssh-key", "key.pub")
    stack.destroy(fails=True)
    assert emulator.state.alive() == fleet
    stack.up()
    stack.destroy()
    assert emulator.state.alive() == set()


def test_whose_each_machine_is_decides_which_ones_are_deleted(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Two stacks, a create that was killed and a machine that nobody has.

    `ls` shows whose each is, the nightly job of the docs ends the forgotten one alone, and what
    `delete --force` says of the other ones comes true.
    """
    stack.env |= PATIENCE
    stack.up()
    (held,) = stack.state_ids()
    prod = Stack(stack.folder, stack.env, name="prod")
    prod.init()
    pending = kill_while_waiting(prod, emulator)
    forgotten = emulator.state.create(NewInstance(ONE, SSH_KEY)).id

    def owners() -> dict[str, list[str]]:
        shown = pulumi_fal(stack, "ls").splitlines()[1:]
        return {row.split()[0]: re.split("  +", row)[-2:] for row in shown}

    dev_name, prod_name = (f"organization/test/{name}" for name in ("dev", "prod"))
    assert owners() == {
        held: [dev_name, "machine"],
        pending: [f"pending: {prod_name}", "machine"],
        forgotten: ["forgotten", "-"],
    }
    for id_ in (held, pending):
        pulumi_fal(stack, "delete", forgotten, id_, "--yes", code=1)
    assert emulator.state.alive() == {held, pending, forgotten}
    run_nightly_job(stack)
    assert emulator.state.alive() == {held, pending}

    shown = pulumi_fal(stack, "delete", held, pending, "--yes", "--force")
    assert emulator.state.alive() == set()
    assert f"The next `pulumi refresh` of {dev_name} drops {held} from state" in shown
    assert f"the next `pulumi up` of {prod_name} makes a new machine for 'machine'" in shown
    stack.refresh()
    assert stack.state_ids() == set()
    prod.cancel()
    prod.up()
    assert prod.state_ids() == emulator.state.alive()
    assert not emulator.state.alive() & {held, pending, forgotten}


def run_nightly_job(stack: Stack) -> None:
    """Run the step of the docs' job that ends forgotten machines, without its pause."""
    blocks = re.findall(r"```yaml\n(.*?)```", CI.read_text(), re.DOTALL)
    jobs = [job for block in blocks for job in yaml.safe_load(block).get("jobs", {}).items()]
    ((_, job),) = [item for item in jobs if item[0] == "end-forgotten"]
    (script,) = [step["run"] for step in job["steps"] if "env" in step]
    assert len(re.findall(r"^sleep \d+$", script, re.MULTILINE)) == 1
    path = f"{Path(sys.executable).parent}:{stack.env['PATH']}"
    subprocess.run(
        ["bash", "-e", "-c", re.sub(r"(?m)^sleep .*", "", script)],
        cwd=stack.project,
        env={**stack.env, "PATH": path},
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=SECONDS,
    )
