"""A machine that exists already is imported; test_docs.py reads such a one."""

from __future__ import annotations

import re
from math import inf

import pytest

from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import EIGHT, ONE
from .harness import OTHER_SSH_KEY, SSH_KEY, Code, Stack, machine, wait_until
from .native import in_both
from .recovery import finish, says

MAKER = f"""
from pulumi import dynamic

class MakerProvider(dynamic.ResourceProvider):
    def create(self, props):
        outputs = {{"given": props["given"], "key": {OTHER_SSH_KEY!r}}}
        return dynamic.CreateResult("maker-id", outputs)

class Maker(dynamic.Resource):
    given: pulumi.Output[str]
    key: pulumi.Output[str]
    def __init__(self, name, given):
        super().__init__(MakerProvider(), name, {{"given": given, "key": None}})

maker = Maker("maker", "untouched")
pulumi.export("given", maker.given)
ComputeInstance("made", instance_type="{ONE}", ssh_key=maker.key)
"""
"""A dynamic provider of somebody else, and a machine whose key is unknown until it has run."""
COUNT = 16


def existing(emulator: EmulatorServer) -> str:
    """The id of a machine that was made by hand, and is ready."""
    made = emulator.state.create(NewInstance(EIGHT, SSH_KEY))
    emulator.state.advance(600)
    return made.id


def imported(name: str, id_: str, **inputs: str) -> str:
    return machine(name, opts=f"import_={id_!r}", **{"instance_type": EIGHT, **inputs})


@pytest.mark.chaos("unit/test_operations.py::test_import")
def test_import_of_many(stack: Stack, emulator: EmulatorServer) -> None:
    """Whether the option stays or goes, no machine is created for one that is imported.

    Other dynamic providers share the plugin process, and are left alone. A preview knows no more
    of their outputs than that they are unknown.
    """
    ids = {f"machine_{number}": existing(emulator) for number in range(COUNT)}
    stack.write(MAKER, imported("box", ids["machine_0"], ssh_key=Code("maker.key")))
    says(stack.preview(fails=True), f"Machine {ids['machine_0']} was not imported, because a prev")
    stack.write(*(imported(name, id_) for name, id_ in ids.items()), MAKER)
    assert set(re.findall(r" =  \S+ (\w+) import", stack.preview().output)) == set(ids)
    gets = emulator.state.calls["get"]
    assert f"{COUNT} imported" in stack.up().output
    assert stack.ids().items() >= ids.items()
    assert stack.outputs()["given"] == "untouched"
    assert emulator.state.calls["get"] == gets
    (made,) = emulator.state.alive() - set(ids.values())
    assert emulator.state.machines[made].requested.ssh_key == OTHER_SSH_KEY
    stack.write(*(machine(name, instance_type=EIGHT) for name in ids), MAKER)
    stack.preview("--expect-no-changes")
    assert emulator.state.creations == COUNT + 1


@pytest.mark.chaos(
    "unit/test_operations.py::test_import_key", "plugin/test_native.py::test_import_of_taken"
)
@in_both
def test_import(stack: Stack, emulator: EmulatorServer) -> None:
    """A machine that doesn't fit the program is not imported. Another is awaited, and stays.

    The API does not return the key, so the first change of it may be a correction. Another stack
    can't import the machine, and leaves it alone later.
    """
    emulator.state.provisioning = inf
    made = emulator.state.create(NewInstance(EIGHT, SSH_KEY)).id
    stack.write(imported("box", made, instance_type=ONE))
    said = rf"Machine {made} was not imported: its instance_?[tT]ype is {EIGHT}, but the program"
    assert re.search(said, stack.preview(fails=True).output)
    stack.write(imported("box", "0000-gone"))
    says(stack.up(fails=True), "Machine 0000-gone can't be read: the API does not know it.")
    assert stack.state_ids() == set()

    hidden = Code(f"pulumi.Output.secret({OTHER_SSH_KEY!r})")
    stack.write(imported("box", made, ssh_key=hidden))
    run = stack.start("up")
    wait_until(lambda: emulator.state.calls["list"] > 4 or run.process.poll() is not None)
    assert made in (so_far := stack.state_file.read_text())
    assert OTHER_SSH_KEY not in so_far
    finish(emulator.state)
    assert run.wait().exit_code == 0
    stack.write(machine("box", instance_type=EIGHT))
    corrected = stack.up()
    says(corrected, f"SSH key of machine {made} changes in state only", "~ 1 updated")
    stack.up("--expect-no-changes")
    stack.write(machine("box", instance_type=EIGHT, ssh_key=OTHER_SSH_KEY))
    says(stack.preview(), "+-1 to replace")

    other = type(stack)(stack.folder, emulator.env, name="other")
    other.init()
    other.write(imported("box", made))
    says(other.up(fails=True), f"Machine {made} was not imported: it is in the state of the stack")
    other.write()
    other.up()
    assert other.state_ids() == set()
    assert stack.state_ids() == emulator.state.alive() == {made}
