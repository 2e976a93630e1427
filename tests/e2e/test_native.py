"""Machines of the native plugin under the real engine: their life, imports, failures, accounts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, ONE
from .harness import OTHER_SSH_KEY, SSH_KEY, Stack, fresh, wait_until
from .harness import TYPE as DYNAMIC_TYPE
from .harness import machine as dynamic_machine
from .native import TYPE, Code, NativeStack, machine, provider
from .recovery import (
    PATIENCE,
    Stage,
    entries,
    finish,
    is_locked,
    kill,
    nothing_runs,
    one_machine,
    pending,
    plugins,
    says,
    unfinished,
    unlock,
)

SHORT = "custom_timeouts=CustomTimeouts(create='2s', update='2s')"


@pytest.fixture
def stack(emulator: EmulatorServer, new_stack: Path, tmp_path: Path) -> Iterator[NativeStack]:
    """A stack without resources, whose program declares one native machine of the 1x type.

    Afterwards nothing of it runs, and the API key is in none of its files.
    """
    with fresh(NativeStack, new_stack, tmp_path / "stack", emulator.env) as stack:
        stack.write(machine())
        yield stack


def made_by_hand(emulator: EmulatorServer, kind: str = ONE, sector: str | None = None) -> str:
    """The id of a ready machine that no stack has."""
    made = emulator.state.create(NewInstance(kind, SSH_KEY, sector))
    emulator.state.advance(600)
    return made.id


def test_a_machine_lives_and_is_replaced_and_its_disappearance_is_noticed(
    stack: NativeStack, emulator: EmulatorServer
) -> None:
    """A preview works offline and without a key; another comment of the SSH key is no change."""
    environ = dict(stack.env)
    stack.env |= {"FAL_ADMIN_API_KEY": "", "FAL_COMPUTE_ENDPOINT": "https://127.0.0.1:1"}
    stack.write(machine(), "pulumi.export('host', machine.ip.apply(lambda ip: ip.upper()))\n")
    says(stack.preview(), "machine create", "host : [unknown]")
    stack.env |= environ
    assert emulator.state.calls.total() == 0

    stack.up()
    first = one_machine(stack, emulator)
    made = emulator.state.get(first)
    expected = {"id": first, "ip": made.ip, "status": "ready", "instanceType": ONE}
    assert stack.outputs()["machine"] == {**expected, "sector": None}
    stack.write(machine(sshKey=f"{ED25519} another comment"))
    stack.up("--expect-no-changes")

    emulator.state.provisioning = 0.5
    stack.write(machine(instanceType=EIGHT))
    says(stack.preview(), "1 to replace")
    stack.up()
    second = one_machine(stack, emulator, made=2)
    assert second != first
    assert stack.outputs()["machine"]["sector"] == emulator.state.get(second).sector

    stack.write(machine(opts="ignore_changes=['instanceType', 'sshKey']", sshKey=OTHER_SSH_KEY))
    stack.up("--expect-no-changes")
    emulator.state.kill(second)
    stack.refresh()
    assert stack.state_ids() == set()
    stack.up()
    assert one_machine(stack, emulator, made=3) not in (first, second)
    stack.destroy()
    assert stack.state_ids() == emulator.state.alive() == set()
    assert [entry.instance_id for entry in entries(stack)] == [second]  # it may come back


@pytest.mark.chaos("plugin/test_native.py::test_import")
def test_existing_machines_are_imported_by_command_option_or_file_and_read_by_get(
    stack: NativeStack, emulator: EmulatorServer
) -> None:
    """No machine is created or replaced, and one that is only read is not deleted.

    The API doesn't return SSH keys, so the `up` after an import records the program's.
    """
    command, file, read, plain = (made_by_hand(emulator) for _ in range(4))
    eight = made_by_hand(emulator, EIGHT, "sector_2")
    stack.import_("command", command)
    rows = [{"type": TYPE, "name": "file", "id": file, "inputs": {"sshKey": SSH_KEY}}]
    (stack.project / "import.json").write_text(json.dumps({"resources": rows}))
    stack.run("import", "--file", "import.json")
    programs = [
        machine("command", opts="protect=True"),
        machine("file", opts="protect=True"),
        f"read = ComputeInstance('read', opts=ResourceOptions(id={read!r}))\n",
        "pulumi.export('read', read.ip)\n",
    ]
    programs.append(machine("eight", instanceType=EIGHT, opts=f"import_={eight!r}"))
    stack.write(*programs, machine("gone", opts="import_='0000-gone'"))
    says(stack.preview(fails=True), "Machine 0000-gone can't be read")
    stack.write(*programs, machine("plain", opts=f"import_={plain!r}"))
    says(stack.up(), "2 imported")
    assert stack.outputs()["read"] == emulator.state.get(read).ip
    assert stack.outputs()["eight"]["sector"] == "sector_2"
    stack.write(*programs, machine("plain"))
    calls = emulator.state.calls.total()
    stack.up("--expect-no-changes")
    assert emulator.state.calls.total() == calls + 1  # for the machine that is only read
    stack.refresh("--expect-no-changes")
    managed = {row["urn"].rpartition("::")[2]: row["id"] for row in stack.resources()}
    assert managed == {
        "command": command,
        "file": file,
        "read": read,
        "plain": plain,
        "eight": eight,
    }

    stack.write(*(machine(name, sshKey=OTHER_SSH_KEY) for name in ("command", "file", "plain")))
    says(stack.preview(), "3 to update", "changes in state only")  # nobody could compare the keys
    stack.write(*(machine(name) for name in ("command", "file", "plain")))
    stack.up()
    stack.destroy()
    assert emulator.state.alive() == {read}
    assert emulator.state.creations == 5


@pytest.mark.chaos("plugin/test_native.py::test_import_of_another_kind")
def test_an_import_of_a_machine_that_differs_from_the_program_leaves_nothing(
    stack: NativeStack, emulator: EmulatorServer
) -> None:
    """The preview fails, so that `up` begins nothing. The next command undoes one without preview.

    Once the program is right, the import is no change for later commands, with or without option.
    """
    id_ = made_by_hand(emulator)
    said = (
        f"Machine {id_} was not imported: its instanceType is {ONE}, but the program says {EIGHT}"
    )
    stack.write(machine(opts=f"import_={id_!r}", instanceType=EIGHT))
    says(stack.preview(fails=True), said)
    assert stack.state_ids() == set()
    says(stack.up(fails=True), said)
    stack.write(machine("another"))
    stack.up()
    assert [row["urn"] for row in stack.resources()] == [stack.urn("another")]
    assert id_ in emulator.state.alive()

    for opts in (f"import_={id_!r}", ""):
        stack.write(machine("another"), machine(opts=opts))
        stack.up()
        stack.preview("--expect-no-changes")
    assert "sshKey" in next(row for row in stack.resources() if row["id"] == id_)["inputs"]
    stack.destroy()
    assert emulator.state.alive() == set()
    assert emulator.state.creations == 2


@pytest.mark.chaos("unit/test_operations.py::test_another_account")
def test_a_machine_keeps_its_account_when_its_resource_gets_another_provider(
    stack: NativeStack,
) -> None:
    """The key stays in state until the user replaces the machine; no file has it in the clear."""
    keys = {"MINE": "the-key-of-mine", "THEIRS": "the-key-of-theirs"}
    with EmulatorServer(provisioning=0.1, deletion=0.1, api_key=None) as emulator:
        stack.env |= {**emulator.env, **keys, "FAL_ADMIN_API_KEY": ""}
        mine, theirs = (
            provider(name.lower(), apiKey=Code(f"os.environ[{name!r}]")) for name in keys
        )
        stack.write(mine, machine(opts="provider=mine"))
        says(stack.preview("--diff"), "apiKey: [secret]")
        stack.up()
        (first,) = emulator.state.alive()
        stack.write(theirs, machine(opts="provider=theirs"))
        says(stack.preview(fails=True), f"Machine {first} belongs to account", "--replace")
        refused = stack.up(fails=True)
        says(refused, f"pulumi up --replace {stack.urn()}")
        assert stack.state_ids() == emulator.state.alive() == {first}
        stack.up("--replace", stack.urn())
        (second,) = emulator.state.alive()
        assert stack.state_ids() == {second}
        assert emulator.state.creations == 2
        assert emulator.state.machines[second].account == emulator.state.account_of(keys["THEIRS"])
        stack.up("--expect-no-changes")
        stack.destroy()
        assert emulator.state.alive() == set()
    assert all(stack.files_with(key) == [] for key in keys.values())


@pytest.mark.chaos("plugin/test_native.py::test_timeout_of_create")
def test_a_resumed_wait_has_the_timeout_of_create(
    stack: NativeStack, emulator: EmulatorServer
) -> None:
    """The engine does not send it with an update."""
    emulator.state.provisioning = inf
    stack.write(machine(opts="custom_timeouts=CustomTimeouts(create='2s')"))
    for _ in range(2):
        says(stack.up(fails=True), "was not ready after 2 s")
    assert emulator.state.creations == 1
    stack.destroy()


@pytest.mark.chaos("plugin/test_hosts.py::test_timeout")
def test_a_wait_that_timed_out_or_was_interrupted_is_finished_by_the_next_up(
    stack: NativeStack, emulator: EmulatorServer
) -> None:
    """The machine is in state meanwhile, also after a refresh; no second one is created."""
    emulator.state.provisioning = inf
    stack.write(machine(opts=SHORT))
    timed_out = stack.up(fails=True)
    (first,) = emulator.state.alive()
    says(timed_out, f"Machine {first} ({ONE})")
    assert "corrupt" not in timed_out.output
    stack.refresh()
    assert stack.state_ids() == {first}
    assert len(unfinished(stack)) == 1
    finish(emulator.state)
    stack.up()
    assert one_machine(stack, emulator) == first

    emulator.state.provisioning = inf
    stack.write(machine(opts=SHORT), machine("second"))
    listed = emulator.state.calls["list"]
    run = stack.start("up")
    wait_until(lambda: emulator.state.creations == 2)
    wait_until(lambda: emulator.state.calls["list"] >= listed + 3)
    run.interrupt()
    interrupted = run.wait()
    (second,) = emulator.state.alive() - {first}
    assert interrupted.exit_code != 0
    says(interrupted, f"The wait for machine {second} ({ONE}) was interrupted.")
    assert stack.state_ids() == {first, second}
    assert not stack.state().get("pending_operations")
    assert not is_locked(stack)
    nothing_runs(stack)
    finish(emulator.state)
    stack.up()
    stack.up("--expect-no-changes")
    assert stack.state_ids() == emulator.state.alive() == {first, second}
    assert emulator.state.creations == 2
    assert entries(stack) == []


@pytest.mark.parametrize("api", ["legacy", pytest.param("v1", marks=pytest.mark.chaos)])
def test_a_kill_in_the_middle_of_a_post_loses_no_machine(
    stack: NativeStack, emulator: EmulatorServer, api: str
) -> None:
    """Under v1 the next `up` sends the same create again; under legacy it names the machine.

    If only the CLI is killed, the plugin records the answer before it ends, under either API.
    """
    path = "/v1" if api == "v1" else ""
    endpoint = f"{emulator.url}{path}"
    stack.env |= {**PATIENCE, "FAL_COMPUTE_API": api, "FAL_COMPUTE_ENDPOINT": endpoint}
    stage = Stage(emulator, "during the POST")
    kill(stack, stage.reached_by(stack.start("up")), "both")
    stage.end()
    nothing_runs(stack)
    unlock(stack)
    (first,) = emulator.state.alive()
    if api == "legacy":
        unanswered = stack.up(fails=True)
        says(unanswered, f"pending adopt {stack.urn()} {first}")
        assert "corrupt" not in unanswered.output
        pending(stack, "adopt", "machine", first)
    stack.up()
    assert one_machine(stack, emulator) == first

    stack.write(machine(), machine("second"))
    stage = Stage(emulator, "during the POST")
    kill(stack, stage.reached_by(stack.start("up")), "cli")
    assert len(plugins(stack)) == 1
    stage.end()
    nothing_runs(stack)
    unlock(stack)
    says(stack.up(), "was not in state")
    assert stack.state_ids() == emulator.state.alive()
    assert emulator.state.creations == 2
    assert len(stack.state_ids()) == 2


@pytest.mark.chaos("plugin/test_accounts.py::test_other_account")
def test_two_accounts_in_one_stack_keep_their_machines_and_their_secrets(
    stack: NativeStack,
) -> None:
    """Each provider's process works with its own key, whatever the variables say.

    No process takes the creates of the other for forgotten ones, and no secret is in state.
    """
    keys = {"MINE": "the-key-of-mine", "THEIRS": "the-key-of-theirs"}
    with EmulatorServer(provisioning=1, deletion=0.1, api_key=None) as emulator:
        stack.env |= {**emulator.env, **keys, "FAL_ADMIN_API_KEY": keys["MINE"]}
        secret = Code(f"Output.secret({SSH_KEY!r})")
        program = (
            provider("theirs", apiKey=Code("Output.secret(os.environ['THEIRS'])"), settle=1),
            machine("here", sshKey=secret, wait=True),
            machine("there", opts="provider=theirs", sshKey=secret),
            machine("later", opts="provider=theirs, depends_on=here", sshKey=secret),
        )
        stack.write(*program)
        ups = [stack.preview(), stack.up(), stack.up("--expect-no-changes")]
        accounts = {
            row["urn"].rpartition("::")[2]: row["outputs"]["account"] for row in stack.resources()
        }
        mine, theirs = (Settings(emulator.url, key, "").account for key in keys.values())
        assert accounts == {"here": mine, "there": theirs, "later": theirs}
        emulator.state.same_account(keys["THEIRS"], "the-rotated-key")
        stack.env["THEIRS"] = "the-rotated-key"
        says(stack.up(), "1 updated")  # the provider
        (here,) = (row["id"] for row in stack.resources() if row["outputs"]["account"] == mine)
        emulator.state.kill(here)
        says(stack.refresh(), f"Machine {here} is gone")
        rotated = Settings(emulator.url, "the-rotated-key", "").account
        assert [row["outputs"]["account"] for row in stack.resources()] == [rotated, rotated]
        ups.append(stack.destroy())
        assert emulator.state.alive() == stack.state_ids() == set()
        for result in ups:
            assert "warning" not in result.output
            assert "not in state" not in result.output
    assert all(stack.files_with(key) == [] for key in keys.values())
    blob = ED25519.split()[1]
    assert [path for path in stack.files_with(blob) if path.startswith(".pulumi")] == []


@pytest.mark.chaos("plugin/test_hosts.py::test_many_at_once")
def test_sixty_four_machines_cost_hardly_more_calls_than_one(
    stack: NativeStack, emulator: EmulatorServer
) -> None:
    """All machines are created at once, and each list call shows all of them."""
    stack.env["FAL_COMPUTE_POLL_INTERVAL"] = "1"
    emulator.state.provisioning = inf
    names = [f"m{number}" for number in range(64)]
    stack.write(*(machine(name) for name in names))
    run = stack.start("up", "--parallel", "64")
    wait_until(lambda: emulator.state.creations == 64)
    assert emulator.state.calls["list"] < 64
    finish(emulator.state)
    assert run.wait().exit_code == 0
    assert stack.state_ids() == emulator.state.alive()
    assert {row["outputs"]["status"] for row in stack.resources()} == {"ready"}
    calls = emulator.state.calls.copy()
    stack.refresh("--parallel", "64")
    stack.destroy("--parallel", "64")
    assert emulator.state.alive() == stack.state_ids() == set()
    assert emulator.state.calls["list"] - calls["list"] < 64
    assert emulator.state.calls["get"] == 64  # one for each machine that two lists lack
    assert emulator.state.calls["delete"] == 64


def test_what_is_wrong_is_said_in_plain_words(stack: NativeStack, emulator: EmulatorServer) -> None:
    """An error has no traceback and no secret value, and leaves no doubt about the state."""
    private = "a private thing"
    stack.write(machine(sshKey=private, sector="sector_9"))
    refused = stack.preview(fails=True)
    says(refused, "sshKey", "sector")
    assert private not in refused.output
    stack.write(machine())
    stack.env["FAL_COMPUTE_API"] = "v9"
    says(stack.preview(fails=True), "FAL_COMPUTE_API (or fal:api) must be legacy or v1")
    stack.env["FAL_COMPUTE_API"] = "legacy"
    emulator.state.capacity = 0
    full = stack.up(fails=True)
    says(full, "InvalidRequestError: POST /compute/instance answered 400")
    assert "corrupt" not in full.output
    assert stack.state_ids() == set()


@pytest.mark.chaos("e2e/test_native_install.py::test_machines_are_imported_as_native_ones")
def test_a_machine_moves_from_the_dynamic_resource_to_the_native_one(
    stack: NativeStack, emulator: EmulatorServer
) -> None:
    """An alias is all that it takes: one update, and no call that touches the machine."""
    Stack.write(stack, dynamic_machine(), dynamic_machine("eight", instance_type=EIGHT))
    stack.up()
    held = emulator.state.alive()
    assert len(stack.resources(DYNAMIC_TYPE)) == 2
    calls = emulator.state.calls.copy()
    alias = f"aliases=[Alias(type_={DYNAMIC_TYPE!r})]"
    stack.write(machine(opts=alias), machine("eight", opts=alias, instanceType=EIGHT))
    says(stack.up(), "2 updated")
    assert emulator.state.calls == calls
    assert stack.resources(DYNAMIC_TYPE) == []
    assert stack.state_ids() == emulator.state.alive() == held
    for row in stack.resources():
        names = {**row["inputs"], **row["outputs"]}
        assert not {"__provider", "instance_type", "ssh_key"} & set(names)
    stack.write(machine(), machine("eight", instanceType=EIGHT))
    stack.up("--expect-no-changes")
    stack.refresh("--expect-no-changes")
    stack.destroy()
    assert emulator.state.alive() == set()
    assert emulator.state.creations == 2
