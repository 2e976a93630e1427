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

from ..cloud.service import CloudService
from ..fakes import EIGHT, ONE
from .cli import pulumi_fal
from .cloud import CloudStack, cloud_stack
from .harness import SECONDS, SSH_KEY, Stack, machine
from .recovery import PATIENCE, kill_while_waiting, printed, urn

CI = Path(__file__).parents[2] / "docs" / "ci.md"


@pytest.mark.chaos("unit/test_cli_whose.py::test_all_commands_agree")
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
    assert "Unreadable: the list of stacks: " in pulumi_fal(dev, "audit", code=2)
    named = [option for name in names for option in ("--stack", name)]
    report = json.loads(pulumi_fal(dev, "audit", "--json", *named, code=1))
    assert {row["id"]: row["whose"] for row in report["machines"]} == {
        **dict.fromkeys({left, *dropped}, "unknown"),
        **dict.fromkeys(dev.state_ids(), "stack"),
    }
    assert list(report["unreadable"]) == [f"stack {names[2]}"]


@pytest.mark.chaos("e2e/test_native_install.py::test_machines_are_imported_as_native_ones")
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

    with subprocess.Popen(
        [sys.executable, "-m", "pulumi_fal.cli", "delete", *fleet],
        cwd=stack.project,
        env=stack.env,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as delete:
        assert delete.stdout is not None
        while "will be deleted" not in delete.stdout.readline():
            assert delete.poll() is None
        stack.run("import", "--file", "fal-import.json")
        said, _ = delete.communicate("y\n", timeout=SECONDS)
    assert "Nothing was deleted, because something has changed since this command began" in said
    assert stack.state_ids() == emulator.state.alive() == fleet
    stack.preview("--expect-no-changes")
    stack.refresh("--expect-no-changes")
    assert "nothing to import" in pulumi_fal(stack, "import-file", "--ssh-key", "key.pub")
    stack.destroy(fails=True)
    assert emulator.state.alive() == fleet
    stack.up()
    stack.destroy()
    assert emulator.state.alive() == set()


@pytest.mark.chaos("unit/test_whose.py::test_whose")
def test_whose_each_machine_is_decides_what_is_done_with_it(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Three stacks, a create that was killed, a lost answer, and a machine that nobody has.

    `ls` shows whose each is, the nightly job of the docs ends the forgotten one alone, and what
    the commands say comes true.
    """
    stack.env |= PATIENCE
    stack.up()
    (held,) = stack.state_ids()
    prod, test = (Stack(stack.folder, stack.env, name=name) for name in ("prod", "test"))
    prod.init()
    pending = kill_while_waiting(prod, emulator)
    forgotten = emulator.state.create(NewInstance(ONE, SSH_KEY)).id

    def owners() -> dict[str, list[str]]:
        shown = pulumi_fal(stack, "ls").splitlines()[1:]
        return {row.split()[0]: re.split("  +", row)[-2:] for row in shown}

    dev_name, prod_name, test_name = (
        f"organization/test/{name}" for name in ("dev", "prod", "test")
    )
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
    assert "(1 in stack, 1 pending)" in pulumi_fal(stack, "audit")

    prod.cancel()
    prod.run("stack", "rm", "--yes", "--force")
    assert f"abandoned: made for {urn(prod)}" in pulumi_fal(stack, "audit", code=1)
    shown = pulumi_fal(stack, "pending", "ls")
    assert f"{prod_name}, which no longer exists" in shown
    assert "No `pulumi up` will continue with it" in shown
    (command,) = printed(shown, "pulumi-fal delete")
    pulumi_fal(stack, "delete", *command, "--yes")
    assert emulator.state.alive() == {held}
    pulumi_fal(stack, "audit")

    test.init()
    emulator.faults.add("create", "reset_after")
    test.up(fails=True)
    (lost,) = emulator.state.alive() - {held}
    assert owners()[lost] == [f"unknown: {test_name}", "perhaps machine"]
    text = stack.state_file.read_text()
    stack.state_file.write_text(text[:-100])
    refused = pulumi_fal(stack, "pending", "adopt", urn(test), lost, code=1, stderr=True)
    assert "these could not be read, and may have the machine:" in refused
    stack.state_file.write_text(text)
    pulumi_fal(stack, "pending", "adopt", urn(test), lost)
    test.up()
    assert test.state_ids() == {lost}

    shown = pulumi_fal(stack, "delete", held, "--yes", "--force")
    assert emulator.state.alive() == {lost}
    assert f"The next `pulumi refresh` of {dev_name} drops {held} from state" in shown
    stack.refresh()
    assert stack.state_ids() == set()


def test_no_machine_is_forgotten_while_its_stack_is_saved(
    emulator: EmulatorServer, tmp_path: Path
) -> None:
    """Pulumi Cloud takes a moment for each checkpoint, and Pulumi saves one after the other."""
    with CloudService("tester", "acme") as service:
        stack = cloud_stack(CloudStack, tmp_path / "stack", emulator.env, service, "acme")
        stack.write(*(machine(f"machine{number}") for number in range(8)))
        service.save_seconds = 0.25
        run, unsaved = stack.start("up"), 0
        while run.process.poll() is None:
            assert pulumi_fal(stack, "audit", "--ids") == ""
            left = emulator.state.alive() - stack.state_ids()
            if left and not unsaved:
                pulumi_fal(stack, "delete", *left, "--yes", code=1)
            unsaved += len(left)
        assert run.wait().exit_code == 0
        assert unsaved > 0
        assert len(stack.state_ids()) == 8
        assert stack.state_ids() == emulator.state.alive()
        stack.kill_all()


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
