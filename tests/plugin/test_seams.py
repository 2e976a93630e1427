"""An SDK whose internals differ: what a seam adds is missing then, and everything else goes on.

The SDK's own plugin is run with a part of it changed, as a later release might.
"""

from __future__ import annotations

import inspect
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.hosts import dynamic
from pulumi_fal.tokens import IMPORT_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import ED25519, EIGHT, ONE, wait_until
from ..replaced import OFF, replaced
from .harness import Plugin, partial_state, plain, sent
from .native import engine

INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}
LAUNCHER = """
import importlib.util, pathlib, sys
from pulumi_fal.machines import lifecycle
lifecycle.REFUSED_SECONDS = 0.1
source = pathlib.Path(importlib.util.find_spec("pulumi.dynamic.__main__").origin).read_text()
def change(old, new):
    global source
    assert old in source, old
    source = source.replace(old, new)
{change}
exec(compile(source, "pulumi/dynamic/__main__.py", "exec"), globals())
"""
SEAMS = {
    "none is off": "",
    "other names of arguments": """
change("request", "message")
change("context", "ctx")
""",
    "another thread pool": """
import concurrent.futures, queue, threading
class Pool(concurrent.futures.Executor):
    def __init__(self, max_workers):
        self.items = queue.Queue()
        for _ in range(max_workers):
            threading.Thread(target=self.work, daemon=True).start()
    def work(self):
        while True:
            future, function, args, kwargs = self.items.get()
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)
    def submit(self, function, /, *args, **kwargs):
        future = concurrent.futures.Future()
        self.items.put((future, function, args, kwargs))
        return future
    def shutdown(self, *args, **kwargs):
        pass
concurrent.futures.ThreadPoolExecutor = Pool
""",
    "no trailing metadata": """
import grpc._server
def missing(self):
    raise AttributeError("set_trailing_metadata")
grpc._server._Context.set_trailing_metadata = property(missing)
""",
    "another Cancel": """
change("    def Cancel(self", "    @_abort_with_traceback\\n    def Cancel(self")
""",
    "no Cancel": """
change("def Cancel(self", "def Stop(self")
""",
    "another get_provider": """
change("get_provider", "find_provider")
""",
    "no engine": """
del sys.argv[1:]
""",
    "another traceback": """
change("import traceback", "import traceback as tb")
change("traceback.format_exc()", "tb.format_exc()")
""",
}
WITHOUT_URN = "other names of arguments"
OFTEN = ("none is off", "no trailing metadata")
"""The seams that `make test` tries as well."""
each_seam = pytest.mark.parametrize(
    "seam",
    [
        pytest.param(seam, marks=() if seam in OFTEN else pytest.mark.chaos)
        for seam in SEAMS
        if seam != WITHOUT_URN  # then no machine is created at all
    ],
)
NO_SEAM = {"hosts.dynamic.guarded", "hosts.dynamic.current_request", "hosts.dynamic.callers"}
Starter = Callable[..., Plugin]


@pytest.fixture
def start_with(start: Callable[..., Plugin], tmp_path: Path) -> Starter:
    def start_with(seam: str, **given: Any) -> Plugin:
        launcher = tmp_path / "launcher.py"
        launcher.write_text(LAUNCHER.format(change=SEAMS[seam]))
        return start(launcher=[str(launcher)], **given)

    return start_with


@each_seam
def test_a_machines_whole_life_goes_on_without_the_seam(
    start_with: Starter, emulator: EmulatorServer, seam: str
) -> None:
    """Check, create, read, diff, update and delete work without any one seam."""
    plugin = start_with(seam)
    assert list(plugin.check(INPUTS).failures) == []
    made = plugin.create(INPUTS)
    outputs = plain(made.properties)
    assert outputs["status"] == "ready"
    assert plain(plugin.read(made.id, outputs).properties) == outputs
    other = {**INPUTS, "instance_type": ONE}
    assert list(plugin.diff(made.id, outputs, other).replaces) == ["instance_type"]
    assert plain(plugin.update(made.id, outputs, INPUTS).properties) == outputs
    plugin.delete(made.id, outputs)
    assert emulator.state.alive() == set()
    assert emulator.state.creations == 1


@each_seam
def test_an_error_is_clean_without_the_seam(
    start_with: Starter, emulator: EmulatorServer, seam: str
) -> None:
    """An error is a class and a message, unless the SDK makes its traceback in its own way."""
    emulator.state.capacity = 0
    plugin = start_with(seam)
    plugin.check(INPUTS)
    with pytest.raises(grpc.RpcError) as caught:
        plugin.create(INPUTS)
    error: Any = caught.value
    said = error.details()
    *trace, last = said.strip().splitlines()
    assert "InvalidRequestError: POST /compute/instance answered 400" in last
    assert bool(trace) == (seam == "another traceback")
    assert partial_state(error) is None


def test_a_bug_keeps_its_traceback_after_an_error_of_ours(
    start_with: Starter, emulator: EmulatorServer
) -> None:
    """A bug, and an error of another provider in the process, keeps its traceback."""
    emulator.state.capacity = 0
    plugin = start_with("none is off")
    with pytest.raises(grpc.RpcError):
        plugin.create(INPUTS)
    with pytest.raises(grpc.RpcError) as caught:
        plugin.create({})  # the engine never does that: check comes first
    bug: Any = caught.value
    assert "Traceback (most recent call last)" in bug.details()
    assert "TypeError" in bug.details()


def die_while_waiting(plugin: Plugin, emulator: EmulatorServer) -> None:
    """Kill the plugin while its create waits. The machine is ready afterwards."""
    create = plugin.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    plugin.kill()
    assert create.code() == grpc.StatusCode.UNAVAILABLE
    emulator.state.advance(2000)


@each_seam
def test_what_a_dead_process_made_is_taken_up_without_the_seam(
    start_with: Starter, emulator: EmulatorServer, seam: str
) -> None:
    """The record on disk alone keeps what partial state would have kept."""
    emulator.state.provisioning = 1000
    dying = start_with(seam)
    dying.check(INPUTS)
    die_while_waiting(dying, emulator)
    next_one = start_with(seam)
    next_one.check(INPUTS)
    assert {next_one.create(INPUTS).id} == emulator.state.alive()
    assert emulator.state.creations == 1


@pytest.mark.parametrize("seam", [WITHOUT_URN])
def test_without_the_urn_no_machine_is_created(
    start_with: Starter, emulator: EmulatorServer, seam: str
) -> None:
    """A create that can't be recorded is refused before it is sent; all other calls work."""
    machine = emulator.state.create(NewInstance(EIGHT, ED25519))
    plugin = start_with(seam)
    assert list(plugin.check(INPUTS).failures) == []
    with pytest.raises(grpc.RpcError) as caught:
        plugin.create(INPUTS)
    error: Any = caught.value
    assert "hides from pulumi-fal which resource it creates" in error.details()
    outputs = plain(plugin.read(machine.id, INPUTS).properties)
    assert plain(plugin.update(machine.id, outputs, INPUTS).properties) == outputs
    plugin.delete(machine.id, outputs)
    assert emulator.state.alive() == set()
    assert emulator.state.creations == 1


@each_seam
def test_a_wait_that_breaks_names_the_machine_and_the_next_create_has_it(
    start_with: Starter, emulator: EmulatorServer, seam: str
) -> None:
    """A machine whose wait breaks is in state, or else in the message and on disk."""
    emulator.state.provisioning = 1000
    plugin = start_with(seam)
    plugin.check(INPUTS)
    create = plugin.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    emulator.faults.add("list", "401", times=99)
    error: Any = create.exception()
    emulator.faults.clear()
    (id_,) = emulator.state.alive()
    kept = partial_state(error)
    assert (kept is None) == (seam == "no trailing metadata")
    assert f"The wait for machine {id_}" in (kept[2][0] if kept else error.details())
    if kept is None:
        emulator.state.advance(2000)
        plugin.check(INPUTS)
        assert plugin.create(INPUTS).id == id_
        assert emulator.state.creations == 1


@pytest.mark.parametrize("seam", [WITHOUT_URN, "no trailing metadata"])
def test_a_read_of_an_unfinished_machine_keeps_it_so_without_partial_state(
    start_with: Starter, emulator: EmulatorServer, seam: str
) -> None:
    """An answer that says that the machine is unfinished takes the place of the failure."""
    emulator.state.provisioning = 1000
    machine = emulator.state.create(NewInstance(EIGHT, ED25519))
    outputs = {**INPUTS, "status": "pending", "unfinished": True}
    found = start_with(seam).read(machine.id, outputs)
    assert found.id == machine.id
    assert plain(found.properties)["unfinished"] is True


MISSING = {
    "none is off": "",
    "another thread pool": "Only four machines are worked on at a time.",
    "another Cancel": "To end a wait, press Ctrl-C twice, then run `pulumi cancel`.",
    "no Cancel": "",  # the method of the base class is patched
    "another get_provider": "`import_` fails; use `pulumi-fal import-file`.",
    "another traceback": "Errors have a traceback.",
}
"""What the warning says of each change that a patch meets."""


def create_two(plugin: Plugin, urn: str) -> None:
    for name in ("a", "b"):
        plugin.create(INPUTS, urn=f"{urn}{name}")


def read_twice(plugin: Plugin, urn: str) -> None:
    """What a program with `import_` does first."""
    for id_ in ("i-1", "i-2"):
        plugin.stub.Read(provider_pb2.ReadRequest(id=id_, urn=urn, properties=sent(INPUTS)))


@pytest.mark.parametrize(
    "seam, use, type_",
    [
        *((seam, create_two, TYPE_TOKEN) for seam in MISSING),
        ("another get_provider", read_twice, IMPORT_TYPE_TOKEN),
    ],
)
def test_what_is_missing_is_said_once(
    start_with: Starter, seam: str, use: Callable[[Plugin, str], None], type_: str
) -> None:
    """The first create or import warns, with the consequence. A preview says nothing."""
    with engine() as (address, logged):
        plugin = start_with(seam, engine=address)
        plugin.check(INPUTS)
        assert list(logged) == []
        use(plugin, f"urn:pulumi:dev::proj::{type_}::box")
        said = [line.message for line in logged if "does not allow all that" in line.message]
    assert [message.splitlines()[1] for message in said] == list(filter(None, [MISSING[seam]]))


def test_a_standard_input_that_is_no_pipe_is_no_dead_engine(
    start: Callable[..., Plugin], emulator: EmulatorServer
) -> None:
    """A plugin whose standard input is no pipe goes on, since it can't tell its engine's end."""
    plugin = start(stdin=subprocess.DEVNULL)
    assert plugin.create(INPUTS).id in emulator.state.alive()
    assert plugin.process.poll() is None


def test_every_seam_can_be_switched_off_under_the_real_engine() -> None:
    """A function that changes the plugin host has a replacement in OFF, under its present name."""
    functions = {
        f"hosts.dynamic.{name}"
        for name, function in inspect.getmembers(dynamic, inspect.isfunction)
        if function.__module__ == dynamic.__name__ and not name.startswith("_")
    }
    assert functions - NO_SEAM <= set(OFF)
    for name in OFF:
        replaced(name, OFF[name])  # fails for a name that the package doesn't have
