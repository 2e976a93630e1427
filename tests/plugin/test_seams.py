"""An SDK whose internals differ: what a seam adds is missing then, and everything else goes on.

The SDK's own plugin is run with a part of it changed, as a later release might.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.tokens import IMPORT_TYPE_TOKEN

from ..fakes import ED25519, EIGHT, ONE, wait_until
from .harness import Client, Host, engine, failure, init_failed, only

in_dynamic = only("dynamic")
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
NO_METADATA = "no trailing metadata"
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
    NO_METADATA: """
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
MISSING = {
    "another thread pool": "Only four machines are worked on at a time.",
    "another Cancel": "To end a wait, press Ctrl-C twice, then run `pulumi cancel`.",
    "another get_provider": "`import_` fails; use `pulumi-fal import-file`.",
    "another traceback": "Errors have a traceback.",
}
"""What the warning says of each change that a patch meets."""


def seams(quick: Collection[str]) -> pytest.MarkDecorator:
    """All seams with which machines are created. `make test` tries the quick ones."""
    values = [
        pytest.param(seam, marks=() if seam in quick else pytest.mark.chaos)
        for seam in SEAMS
        if seam != WITHOUT_URN
    ]
    return pytest.mark.parametrize("seam", values)


def changed(host: Host, seam: str, **given: Any) -> Client:
    return host.start(launcher=("-c", LAUNCHER.format(change=SEAMS[seam])), **given)


def warnings(logged: list[Any]) -> list[str]:
    said = [line.message for line in logged if "does not allow all that" in line.message]
    return [message.splitlines()[1] for message in said]


@in_dynamic
@seams(quick=("none is off", NO_METADATA, *MISSING))
def test_life(host: Host, emulator: EmulatorServer, seam: str) -> None:
    """All calls work without any one seam. The first create warns of what is missing, once.

    A bug, and an error of another provider in the process, keeps its traceback.
    """
    with engine() as (address, logged):
        client = changed(host, seam, **({} if seam == "no engine" else {"engine": address}))
        assert list(client.check(INPUTS).failures) == []
        assert list(logged) == []  # a preview needs none of it
        made = client.create(INPUTS)
        outputs = client.received(made.properties)
        assert client.received(client.read(made.id, INPUTS, outputs).properties) == outputs
        other = {**INPUTS, "instance_type": ONE}
        assert list(client.diff(made.id, INPUTS, outputs, other).replaces) == ["instance_type"]
        assert client.received(client.update(made.id, outputs, INPUTS).properties) == outputs
        client.delete(made.id, outputs)
        assert client.read(made.id, INPUTS, outputs).id == ""  # the engine drops it from state
        assert (emulator.state.creations, emulator.state.alive()) == (1, set())
        emulator.faults.add("create", "409")
        another = f"{client.urn}-2"
        error = failure(lambda: client.create(INPUTS, urn=another))
        *trace, last = error.details().strip().splitlines()
        assert "ConflictError: POST /compute/instance answered 409" in last
        assert bool(trace) == (seam == "another traceback")
        assert init_failed(error) is None
        said = failure(lambda: client.create({})).details()  # check comes first in an engine
        assert "Traceback (most recent call last)" in said
        assert "TypeError" in said
        assert warnings(logged) == [MISSING[name] for name in MISSING if name == seam]


@in_dynamic
@seams(quick=("none is off", NO_METADATA))
def test_broken_wait(host: Host, emulator: EmulatorServer, seam: str) -> None:
    """A machine whose wait breaks is in state, or else in the message and in the next create."""
    emulator.state.provisioning = inf
    client = changed(host, seam)
    create = client.create_later(INPUTS)
    wait_until(lambda: emulator.state.calls["list"] >= 2)
    emulator.faults.add("list", "401", times=99)
    error = failure(create.result)
    emulator.faults.clear()
    (machine,) = emulator.state.machines.values()
    kept = init_failed(error)
    assert (kept is None) == (seam == NO_METADATA)
    assert f"The wait for machine {machine.id}" in (kept.reasons[0] if kept else error.details())
    if kept is None:
        assert_unfinished(client, machine.id)
    machine.provisioning = 0
    assert client.create(INPUTS).id == machine.id
    assert emulator.state.creations == 1


def assert_unfinished(client: Client, id_: str) -> None:
    """Without partial state, a read answers that the machine is unfinished."""
    found = client.read(id_, INPUTS, {**INPUTS, "status": "pending", "unfinished": True})
    assert found.id == id_
    assert client.received(found.properties)["unfinished"] is True


@in_dynamic
def test_import_is_missing(host: Host) -> None:
    """The read of a program with `import_` warns as well, and once."""
    with engine() as (address, logged):
        client = changed(host, "another get_provider", engine=address)
        urn = f"urn:pulumi:dev::proj::{IMPORT_TYPE_TOKEN}::box"
        for id_ in ("i-1", "i-2"):
            sent = client.sent(INPUTS)
            client.stub.Read(provider_pb2.ReadRequest(id=id_, urn=urn, properties=sent))
        assert warnings(logged) == [MISSING["another get_provider"]]


@in_dynamic
def test_no_urn(host: Host, emulator: EmulatorServer) -> None:
    """A create that can't be recorded is refused before it is sent; all other calls work."""
    emulator.state.provisioning = inf
    id_ = emulator.state.create(NewInstance(EIGHT, ED25519)).id
    client = changed(host, WITHOUT_URN)
    assert list(client.check(INPUTS).failures) == []
    said = failure(lambda: client.create(INPUTS)).details()
    assert "hides from pulumi-fal which resource it creates" in said
    assert_unfinished(client, id_)
    emulator.state.machines[id_].provisioning = 0
    outputs = client.received(client.read(id_, INPUTS, INPUTS).properties)
    assert client.received(client.update(id_, outputs, INPUTS).properties) == outputs
    client.delete(id_, outputs)
    assert (emulator.state.creations, emulator.state.alive()) == (1, set())
