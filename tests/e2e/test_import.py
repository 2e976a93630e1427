"""A machine that exists already comes into a stack: by `import_`, one or many, or by `get`."""

from __future__ import annotations

import pytest

from pulumi_fal.emulator.server import EmulatorServer

from .harness import SSH_KEY, Stack, machine

ONE, EIGHT = "gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"

OTHER_PROVIDER = """
from pulumi import dynamic

class OtherProvider(dynamic.ResourceProvider):
    def create(self, props):
        return dynamic.CreateResult("other-id", {"given": props["given"]})

class Other(dynamic.Resource):
    given: pulumi.Output[str]
    def __init__(self, name, given):
        super().__init__(OtherProvider(), name, {"given": given})

pulumi.export("other", Other("other", "untouched").given)
"""


def existing(
    emulator: EmulatorServer, instance_type: str = EIGHT, sector: str | None = None
) -> str:
    """The id of a machine that was made by hand, and is ready."""
    made = emulator.state.create(instance_type, SSH_KEY, sector)
    emulator.state.advance(600)
    return made.id


def imported(name: str, id_: str, instance_type: str = EIGHT, **inputs: object) -> str:
    return machine(name, opts=f"import_={id_!r}", instance_type=instance_type, **inputs)


def test_a_machine_is_imported_and_is_no_difference_later(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Whether the option stays or goes, and never is another machine made."""
    id_ = existing(emulator)
    stack.write(imported("machine", id_))
    preview = stack.preview()
    assert " =  " in preview.output
    assert "import" in preview.output
    up = stack.up()
    assert "1 imported" in up.output
    assert stack.outputs()["machine"]["status"] == "ready"
    stack.preview("--expect-no-changes")
    stack.write(machine(instance_type=EIGHT))
    stack.preview("--expect-no-changes")
    stack.up("--expect-no-changes")
    stack.refresh("--expect-no-changes")
    assert stack.state_ids() == {id_}
    assert emulator.state.creations == 1
    stack.destroy()
    assert emulator.state.alive() == set()


def test_sixteen_are_imported_at_once(stack: Stack, emulator: EmulatorServer) -> None:
    """Each becomes the resource that names it, and they share the list calls."""
    ids = [existing(emulator, ONE) for _ in range(16)]
    stack.write(*(imported(f"m{n}", id_, ONE) for n, id_ in enumerate(ids)))
    stack.up()
    stack.preview("--expect-no-changes")
    assert {each["urn"].rpartition("::")[2]: each["id"] for each in stack.resources()} == {
        f"m{n}": id_ for n, id_ in enumerate(ids)
    }
    assert emulator.state.creations == 16
    assert emulator.state.calls["list"] < 16
    assert emulator.state.calls["get"] == 0


@pytest.mark.parametrize(
    "inputs, there, said",
    [
        ({"instance_type": ONE}, f"instance_type is {EIGHT}", f"the program says {ONE}"),
        ({"sector": "sector_1"}, "sector is sector_2", "the program says sector_1"),
    ],
)
def test_a_machine_that_is_not_what_the_program_says_is_refused_in_the_preview(
    stack: Stack, emulator: EmulatorServer, inputs: dict[str, str], there: str, said: str
) -> None:
    """Both values are named, and nothing is imported."""
    id_ = existing(emulator, EIGHT, "sector_2")
    stack.write(imported("machine", id_, **{"instance_type": EIGHT, **inputs}))
    for result in (stack.preview(fails=True), stack.up(fails=True)):
        assert f"Machine {id_} was not imported: its {there}, but {said}." in result.output
    assert stack.state_ids() == set()
    assert emulator.state.creations == 1


def test_a_machine_that_is_not_there_is_refused_in_the_preview(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Not even an empty resource is left of it."""
    stack.write(imported("machine", "0000-gone"))
    for result in (stack.preview(fails=True), stack.up(fails=True)):
        assert "Machine 0000-gone can't be read: the API does not know it." in result.output
    assert stack.state_ids() == set()
    assert emulator.state.creations == 0


def test_other_dynamic_providers_in_the_program_are_left_alone(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """They share the plugin process with an import."""
    id_ = existing(emulator)
    stack.write(imported("machine", id_), OTHER_PROVIDER, machine("made"))
    stack.up()
    stack.preview("--expect-no-changes")
    assert stack.outputs()["other"] == "untouched"
    assert id_ in stack.state_ids()
    assert emulator.state.creations == 2


def test_get_reads_a_machine_and_never_deletes_it(stack: Stack, emulator: EmulatorServer) -> None:
    """It is somebody else's, and stays so."""
    id_ = existing(emulator, EIGHT, "sector_3")
    read = f"found = ComputeInstance.get('found', {id_!r})\n"
    stack.write(read, "pulumi.export('found', {'ip': found.ip, 'sector': found.sector})\n")
    stack.up()
    made = emulator.state.get(id_)
    assert stack.outputs()["found"] == {"ip": made.ip, "sector": "sector_3"}
    stack.destroy()
    assert emulator.state.alive() == {id_}


def test_get_of_a_machine_that_is_not_there_is_an_error(stack: Stack) -> None:
    """Not a resource whose outputs are empty."""
    stack.write("found = ComputeInstance.get('found', '0000-gone')\n")
    for result in (stack.preview(fails=True), stack.up(fails=True)):
        assert "Machine 0000-gone can't be read: the API does not know it." in result.output


def test_programs_look_machines_up_without_managing_them(
    stack: Stack, emulator: EmulatorServer
) -> None:
    """Filters and Outputs included."""
    first, second = existing(emulator, ONE), existing(emulator, EIGHT, "sector_2")
    stack.write(
        "import pulumi_fal\n",
        f"pulumi.export('one', pulumi_fal.get_instance({first!r}).status)\n",
        "eights = pulumi_fal.get_instances(sector='sector_2', status='ready')\n",
        "pulumi.export('eights', [each.id for each in eights])\n",
        f"later = pulumi_fal.get_instance_output(pulumi.Output.from_input({second!r}))\n",
        "pulumi.export('later', later.apply(lambda found: found.instance_type))\n",
    )
    stack.up()
    outputs = stack.outputs()
    assert (outputs["one"], outputs["eights"], outputs["later"]) == ("ready", [second], EIGHT)
    stack.write("import pulumi_fal\n", "pulumi_fal.get_instance('0000-gone')\n")
    failed = stack.up(fails=True)
    assert "answered 404" in failed.output
