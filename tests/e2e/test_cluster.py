"""A ComputeCluster under the real engine: one sector, whatever happens to its machines."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import State
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN

from ..fakes import ED25519, EIGHT
from .harness import OTHER_SSH_KEY, SSH_KEY, Stack, fresh, machine, wait_until
from .native import Code, NativeStack, provider
from .recovery import PATIENCE, entries, finish, pending, says

PYTHON, NATIVE = "the Python package", "the native plugin"
both = pytest.mark.parametrize(
    "stack", [pytest.param(PYTHON, marks=pytest.mark.chaos), NATIVE], indirect=True
)
"""The component is that of the Python package, or that of the native plugin."""


@pytest.fixture
def stack(
    request: pytest.FixtureRequest, emulator: EmulatorServer, new_stack: Path, tmp_path: Path
) -> Iterator[Stack]:
    """A stack without resources. Afterwards nothing of it runs."""
    kind = NativeStack if getattr(request, "param", PYTHON) == NATIVE else Stack
    with fresh(kind, new_stack, tmp_path / "stack", emulator.env) as stack:
        yield stack


def cluster(
    size: int = 3, sector: str | None = None, ssh_key: str = SSH_KEY, opts: str = ""
) -> str:
    """A program's lines for a cluster whose outputs are the stack's."""
    return (
        f"train = ComputeCluster('train', size={size}, ssh_key={ssh_key!r}, sector={sector!r}, "
        f"opts=ResourceOptions({opts}))\n"
        "for name in ('ips', 'main_ip', 'sector', 'hostfile', 'torchrun', 'ssh_config'):\n"
        "    pulumi.export(name, getattr(train, name))\n"
    )


def ids(stack: Stack) -> dict[str, str]:
    """The id of each machine in state, by the resource's name."""
    return {
        resource["urn"].rpartition("::")[2]: resource["id"]
        for resource in stack.resources()
        if resource.get("id")
    }


def sectors(state: State) -> list[str | None]:
    return [machine.sector for machine in state.existing()]


@pytest.fixture
def state(emulator: EmulatorServer) -> State:
    return emulator.state


@pytest.mark.chaos("unit/test_cluster.py::test_machines")
@both
def test_a_cluster_stays_in_the_sector_that_its_first_machine_was_given(
    stack: Stack, state: State
) -> None:
    """The cluster grows, loses its first machine, gets another key and shrinks, in one sector."""
    stack.write(cluster(2))
    says(stack.up(), "+ 4 created")  # with the stack and the component
    (sector,) = set(sectors(state))
    outputs = stack.outputs()
    assert outputs["sector"] == sector
    assert outputs["hostfile"] == "".join(f"{ip} slots=8\n" for ip in outputs["ips"])
    assert outputs["torchrun"][1].endswith(
        f"--node-rank=1 --rdzv-endpoint={outputs['main_ip']}:29500"
    )
    two = ids(stack)
    assert list(two) == ["train-0", "train-1"]

    # It grows by the last ones, in the same sector, which is not the one whose turn it is.
    stack.write(cluster(3))
    says(stack.up(), "+ 1 created", "4 unchanged")
    assert ids(stack).items() > two.items()
    assert set(sectors(state)) == {sector}

    # The first machine vanishes: what takes its place joins the others, which stay.
    state.kill(two["train-0"])
    stack.refresh()
    says(stack.up(), "+ 1 created", "4 unchanged")
    assert set(sectors(state)) == {sector}
    assert ids(stack)["train-1"] == two["train-1"]

    # A replacement of the first alone replaces no other, even if it is deleted first.
    before = ids(stack)
    stack.write(cluster(3, opts="delete_before_replace=True"))
    says(stack.up("--replace", "**train-0"), "1 replaced")
    (parent,) = {resource["parent"] for resource in stack.resources()}
    assert {resource["urn"] for resource in stack.resources(CLUSTER_TYPE_TOKEN)} == {parent}
    assert not any(resource.get("dependencies") for resource in stack.resources())
    after = ids(stack)
    assert {name for name in after if after[name] != before[name]} == {"train-0"}
    assert set(sectors(state)) == {sector}

    # A new key replaces all, in their sector.
    stack.write(cluster(3, ssh_key=OTHER_SSH_KEY))
    says(stack.up(), "3 replaced")
    assert set(sectors(state)) == {sector}

    # Requesting the sector that they are in is recorded for the first, and changes no machine.
    held = ids(stack)
    stack.write(cluster(3, sector, OTHER_SSH_KEY))
    says(stack.up("--refresh"), "~ 1 updated", "4 unchanged")
    assert ids(stack) == held
    stack.write(cluster(1, ssh_key=OTHER_SSH_KEY))
    says(stack.up(), "- 2 deleted")
    assert ids(stack) == {"train-0": held["train-0"]}
    assert stack.state_ids() == state.alive()
    stack.destroy()
    assert state.alive() == set()


@pytest.mark.parametrize(
    "stack",
    [
        PYTHON,
        pytest.param(
            NATIVE,
            marks=pytest.mark.chaos("unit/test_cluster.py::test_refused"),
        ),
    ],
    indirect=True,
)
def test_full_sector(stack: Stack, state: State) -> None:
    """The error has the API's words, and what to do now. What exists stays."""
    state.sector_capacity = 3
    stack.write(cluster(4, "sector_2"))
    result = stack.up(fails=True)
    (missing,) = {f"train-{number}" for number in range(4)} - set(ids(stack))
    says(
        result, f"Machine {missing} was not created", "no capacity left in sector_2. If the sector"
    )
    says(result, "Other machines of cluster train may exist, and are billed.", "pulumi-fal ls")
    assert stack.state_ids() == state.alive()
    state.sector_capacity = 4
    says(stack.up(), "+ 1 created")
    assert sectors(state) == ["sector_2"] * 4

    # A machine that was to be replaced, and was deleted first.
    state.sector_capacity = 3
    stack.write(cluster(4, "sector_2", opts="delete_before_replace=True"))
    result = stack.up("--replace", "**train-1", fails=True)
    says(result, "was deleted first, so the resource has no machine now.")
    assert "may exist" not in result.output


SHORT = "custom_timeouts=pulumi.CustomTimeouts(create='2s', update='2s')"


@pytest.mark.chaos("unit/test_cluster.py::test_first_is_missing")
@both
def test_no_machine_without_the_first(stack: Stack, state: State) -> None:
    """Only the first has the sector. The rest of the program goes on, if the user wants that."""
    stack.write(cluster(3), machine("alone"))
    state.sector_capacity = 0
    refused = stack.up("--continue-on-error", fails=True)
    others = [f"Machine train-{number} was not created" for number in (1, 2)]
    says(refused, "Machine train-0 was not created: POST", *others)
    state.sector_capacity = None
    for left_out in (
        ("--exclude", "**train-0"),
        ("--target", "**ComputeCluster::train", "--target", "**train-1"),
    ):
        says(stack.up(*left_out, fails=True), others[0])
    assert list(ids(stack)) == ["alone"]

    state.provisioning = inf
    stack.write(cluster(3, opts=SHORT), machine("alone"))
    says(stack.up("--continue-on-error", fails=True), "is billed, but was not ready", *others)
    assert set(ids(stack)) == {"alone", "train-0"}
    finish(state)
    stack.write(cluster(2), machine("alone"))
    stack.up()

    # Those that are there have the sector. With the first left out, or gone, the others follow.
    stack.write(cluster(3), machine("alone"))
    says(stack.up("--exclude", "**train-0"), "+ 1 created")
    state.kill(ids(stack)["train-0"])
    stack.refresh()
    stack.write(cluster(4), machine("alone"))
    says(stack.up("--exclude", "**train-0"), "+ 1 created")
    says(stack.up(), "+ 1 created")
    assert set(ids(stack)) == {"alone", *(f"train-{number}" for number in range(4))}
    assert stack.state_ids() == state.alive()
    assert len(set(sectors(state)) - {None}) == 1


@pytest.mark.chaos("unit/test_operations.py::test_unknown_sector")
@both
def test_sector_passed_on(stack: Stack, state: State) -> None:
    """Who deletes a machine before its replacement must not delete all that are in its sector."""

    def write(size: int, ssh_key: str, sector: str) -> None:
        first = {"opts": "delete_before_replace=True", "ssh_key": ssh_key}
        stack.write(
            cluster(size, **first),
            machine("first", instance_type=EIGHT, sector=sector, **first),
            machine("friend", instance_type=EIGHT, sector=Code("train.sector")),
            machine("second", instance_type=EIGHT, sector=Code("first.sector")),
            f"pair = ComputeCluster('pair', size=2, ssh_key={SSH_KEY!r}, sector=train.sector)\n",
        )

    def replaced() -> set[str]:
        """The names of what `up` replaces. The preview has to show all of it."""
        shown = set(re.findall(r"\+- +\S+ (\S+) replace ", stack.preview().output))
        before = ids(stack)
        stack.up()
        after = ids(stack)
        changed = {name for name in before if after[name] != before[name]}
        assert shown >= changed
        return changed

    write(2, SSH_KEY, "sector_1")
    stack.up()
    write(2, OTHER_SSH_KEY, "sector_1")
    assert replaced() == {"train-0", "train-1", "first"}
    write(2, OTHER_SSH_KEY, "sector_2")
    assert replaced() == {"first", "second"}
    assert stack.outputs()["second"]["sector"] == "sector_2"
    write(3, OTHER_SSH_KEY, "sector_2")
    assert "replace" not in stack.preview().output
    assert replaced() == set()
    assert stack.state_ids() == state.alive()


@pytest.mark.chaos("unit/test_launch.py::test_candidates")
@both
def test_a_lost_answer_to_the_third_create_stops_that_machine_alone(
    stack: Stack, emulator: EmulatorServer, state: State
) -> None:
    """The others are created and stay; the third is adopted, and all are in one sector."""
    stack.env |= PATIENCE
    stack.write(cluster(4))
    says(stack.preview(), "+ 6 to create")
    assert state.calls.total() == 0
    emulator.faults.script("create=ok:times=2")
    emulator.faults.script("create=reset_after")
    lost = stack.up(fails=True)
    held = stack.state_ids()
    (made,) = state.alive() - held
    assert len(held) == 3
    says(lost, made)
    (entry,) = (entry for entry in entries(stack) if entry.problem)
    pending(stack, "adopt", entry.origin.urn, made)
    stack.up()
    assert stack.state_ids() == state.alive() == held | {made}
    assert state.creations == 4
    assert len(set(sectors(state))) == 1


@pytest.mark.chaos("plugin/test_process.py::test_engine_death")
@both
def test_a_killed_engine_leaves_no_machine_behind(stack: Stack, state: State) -> None:
    """The next run goes on with the first machine, and the others follow it."""
    state.provisioning = 3600
    stack.write(cluster(3))
    run = stack.start("up")
    wait_until(lambda: state.calls["list"] > 2 and state.creations == 1)
    run.kill()
    run.wait()
    state.provisioning = 0.2
    state.advance(3600)
    stack.cancel()
    stack.up()
    assert state.creations == 3
    assert len(set(sectors(state))) == 1
    assert stack.state_ids() == state.alive()


@pytest.mark.chaos("unit/test_cluster.py::test_options")
def test_options_of_the_component_reach_its_machines(stack: Stack, state: State) -> None:
    """Protected machines are not deleted, and a transformation can ignore changes."""
    stack.write(cluster(2, "sector_1", opts="protect=True"))
    stack.up()
    held = ids(stack)
    stack.write(cluster(1, "sector_1", opts="protect=True"))
    says(stack.up(fails=True), "protected")
    assert ids(stack) == held

    ignore = (
        "def ignore(args):\n"
        "    if args.type_.endswith('fal:ComputeInstance'):\n"
        "        more = ResourceOptions(ignore_changes=['ssh_key'])\n"
        "        opts = ResourceOptions.merge(args.opts, more)\n"
        "        return pulumi.ResourceTransformationResult(args.props, opts)\n"
    )
    stack.write(ignore, cluster(2, "sector_1", OTHER_SSH_KEY, "transformations=[ignore]"))
    stack.up()
    assert ids(stack) == held
    stack.destroy()
    assert state.alive() == set()


@pytest.mark.chaos("unit/test_cluster.py::test_moves_to_native")
def test_a_stack_of_the_python_package_continues_with_the_native_plugin(
    emulator: EmulatorServer, new_stack: Path, tmp_path: Path, state: State
) -> None:
    """No machine is replaced, the program needs no alias, and the cluster can grow afterwards."""
    folder = tmp_path / "stack"
    shutil.copytree(new_stack, folder)
    python, native = Stack(folder, emulator.env), NativeStack(folder, emulator.env)
    python.write(cluster(2))
    python.up()
    held = ids(python)
    native.write(cluster(2))
    says(native.up(), "~ 2 updated")
    assert ids(native) == held
    native.up("--expect-no-changes")
    native.write(cluster(3))
    says(native.up(), "+ 1 created", "4 unchanged")
    assert state.creations == 3
    assert len(set(sectors(state))) == 1
    native.destroy()
    assert state.alive() == set()
    native.kill_all()


@pytest.mark.chaos("plugin/test_native.py::test_secrets_in_partial_state")
def test_a_cluster_is_in_the_account_of_its_provider_and_its_key_stays_secret(
    new_stack: Path, tmp_path: Path
) -> None:
    """Each account has a cluster. State, its history and its backups lack the SSH key.

    That is so as well while machines are not ready, because the wait for them was interrupted.
    """
    folder = tmp_path / "stack"
    shutil.copytree(new_stack, folder)
    keys = {"MINE": "the-key-of-mine", "THEIRS": "the-key-of-theirs"}
    with EmulatorServer(provisioning=0.2, deletion=0.1, api_key=None) as emulator:
        state = emulator.state
        stack = NativeStack(folder, emulator.env)
        stack.env |= {**keys, "FAL_ADMIN_API_KEY": keys["MINE"]}
        key = Code(f"Output.secret({SSH_KEY!r})")
        theirs = provider("theirs", apiKey=Code("os.environ['THEIRS']"))
        here = f"ComputeCluster('here', size=1, sshKey={key})\n"
        there = f"there = ComputeCluster('there', ResourceOptions(provider=theirs), sshKey={key}"
        stack.write(here, theirs, f"{there}, size=2)\npulumi.export('ips', there.ips)\n")
        stack.up()
        counts = [len(state.list(state.account_of(keys[name]))) for name in keys]
        assert counts == [1, 2]
        assert len(stack.outputs()["ips"]) == 2

        state.provisioning = inf
        stack.write(here, theirs, f"{there}, size=3)\n")
        run = stack.start("up")
        wait_until(lambda: state.creations == 4)
        listed = state.calls["list"]
        wait_until(lambda: state.calls["list"] >= listed + 3)
        run.interrupt()
        says(run.wait(), "was interrupted")
        assert stack.state_ids() == state.alive()
        finish(state)
        says(stack.up(), "~ 1 updated")
        stack.up("--expect-no-changes")
        assert state.creations == 4
        blob = ED25519.split()[1]
        assert blob not in str(stack.export())
        assert [path for path in stack.files_with(blob) if path.startswith(".pulumi")] == []
        stack.destroy()
        assert state.alive() == set()
        stack.kill_all()
