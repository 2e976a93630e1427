"""A ComputeCluster under Pulumi's own mocks, and what the provider does for its machines."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pulumi
import pytest
from pulumi.runtime import rpc

from pulumi_fal import ComputeCluster, ComputeClusterArgs, InstanceType, Sector
from pulumi_fal.api.request import Request
from pulumi_fal.errors import IncompleteClusterError, InvalidRequestError
from pulumi_fal.machines.entry import Phase
from pulumi_fal.resource import checks, cluster, operations
from pulumi_fal.resource.call import WARNING, Call
from pulumi_fal.stacks.state import StackMachine
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, NATIVE_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import ED25519, EIGHT, HERE, ONE, RSA, refusal, wait_until
from .programs import WITH_MOCKS, KeepingMocks, pulumi_test, set_mocks
from .world import World

pytestmark = WITH_MOCKS


class Mocks(KeepingMocks):
    """Answers as fal would: without `sector`, the API chooses the third. Keeps what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, Any] = {"sector": "sector_3"}
        self.without_ip: set[str] = set()
        self.sectors: dict[str, str] = {}
        """The sectors that machines turn out to be in."""

    def new_resource(
        self, args: pulumi.runtime.MockResourceArgs
    ) -> tuple[str | None, dict[Any, Any]]:
        self.asked[args.name] = args
        if args.typ == CLUSTER_TYPE_TOKEN:
            return None, {}
        ip = {} if args.name in self.without_ip else {"ip": f"198.18.0.{args.name[-1]}"}
        outputs = {**self.outputs, **args.inputs, **ip}
        if args.name in self.sectors:
            outputs["sector"] = self.sectors[args.name]
        return f"{args.name}-id", outputs


@pytest.fixture
def mocks() -> Iterator[Mocks]:
    mocks = Mocks()
    set_mocks(mocks)
    yield mocks
    # Failed outputs report themselves when they are collected, and Python 3.11 has a bug if that
    # happens while another test parses Python.
    gc.collect()


def nodes(mocks: Mocks) -> dict[str, dict[str, Any]]:
    """The inputs of the machines that were asked for."""
    return {name: args.inputs for name, args in mocks.asked.items() if args.typ == TYPE_TOKEN}


@pulumi_test
def test_all_machines_get_the_sector_that_is_requested(mocks: Mocks) -> pulumi.Output[None]:
    """With a sector, no machine depends on another, so all are created at once."""
    cluster = ComputeCluster(
        "train", ComputeClusterArgs(size=3, ssh_key=ED25519, sector=Sector.SECTOR_2, wait=False)
    )

    def check(_: object) -> None:
        asked = nodes(mocks)
        assert sorted(asked) == ["train-0", "train-1", "train-2"]
        for inputs in asked.values():
            assert inputs["instance_type"] == EIGHT
            assert inputs["sector"] == "sector_2"
            assert inputs["ssh_key"] == ED25519
            assert inputs["wait"] is False
            assert inputs["__cluster_size"] == 3

    return pulumi.Output.all(*(machine.urn for machine in cluster.machines)).apply(check)


@pulumi_test
def test_without_a_sector_the_others_follow_the_first(mocks: Mocks) -> pulumi.Output[None]:
    """The first is awaited even with `wait=False`, because its sector is not known earlier."""
    cluster = ComputeCluster("train", size=3, ssh_key=ED25519, wait=False)

    def check(_: object) -> None:
        first, *others = nodes(mocks).values()
        assert "sector" not in first
        assert "wait" not in first
        assert [(other["sector"], other["wait"]) for other in others] == [("sector_3", False)] * 2

    return pulumi.Output.all(*(machine.urn for machine in cluster.machines)).apply(check)


@pytest.mark.parametrize("wait", [None, True, False])
@pulumi_test
def test_each_machine_waits_for_ssh(mocks: Mocks, wait: bool | None) -> pulumi.Output[None]:
    """The first is told of `wait=False` too, so that the check refuses it before there is one."""
    cluster = ComputeCluster("train", size=3, ssh_key=ED25519, wait=wait, wait_for_ssh=True)

    def check(_: object) -> None:
        asked = nodes(mocks).values()
        assert [inputs["wait_for_ssh"] for inputs in asked] == [True] * 3
        assert [inputs.get("wait") for inputs in asked] == [wait] * 3

    return pulumi.Output.all(*(machine.urn for machine in cluster.machines)).apply(check)


@pulumi_test
def test_without_the_wait_for_ssh_the_first_is_awaited(mocks: Mocks) -> pulumi.Output[None]:
    """To switch it off is the same as to leave it out."""
    cluster = ComputeCluster("train", size=2, ssh_key=ED25519, wait=False, wait_for_ssh=False)

    def check(_: object) -> None:
        assert nodes(mocks)["train-0"].get("wait") is None

    return pulumi.Output.all(*(machine.urn for machine in cluster.machines)).apply(check)


@pulumi_test
def test_each_machine_waits_for_room_for_as_long(mocks: Mocks) -> pulumi.Output[None]:
    """Also the first one, whose sector the others wait for."""
    cluster = ComputeCluster("train", size=3, ssh_key=ED25519, wait_for_capacity="6h")

    def check(_: object) -> None:
        assert [inputs["wait_for_capacity"] for inputs in nodes(mocks).values()] == ["6h"] * 3

    return pulumi.Output.all(*(machine.urn for machine in cluster.machines)).apply(check)


@pytest.mark.parametrize("given", [ONE, InstanceType.GPU_1X_H100_SXM5])
def test_a_type_without_infiniband_is_refused(mocks: Mocks, given: str) -> None:
    """Such machines have no network in common, and the API chooses no sector for them."""
    with pytest.raises(pulumi.RunError, match=f"instance_type {ONE} has no InfiniBand"):
        ComputeCluster("train", size=2, ssh_key=ED25519, instance_type=given)
    assert nodes(mocks) == {}


@pulumi_test
def test_a_type_that_is_not_known_is_left_to_the_api(mocks: Mocks) -> pulumi.Output[None]:
    """The API may have newer types. How many GPUs one has is not guessed from its name."""
    cluster = ComputeCluster("train", size=2, ssh_key=ED25519, instance_type="gpu_8x_b200")

    def check(known: list[Any]) -> None:
        hostfile, torchrun, ssh_config = known
        assert {inputs["instance_type"] for inputs in nodes(mocks).values()} == {"gpu_8x_b200"}
        assert (hostfile, torchrun) == (None, None)
        assert "HostName 198.18.0.1" in ssh_config

    return pulumi.Output.all(cluster.hostfile, cluster.torchrun, cluster.ssh_config).apply(check)


@pulumi_test
def test_the_machines_are_children_of_the_component(mocks: Mocks) -> pulumi.Output[None]:
    """State holds the machines' URNs, which contain the component's type and their names."""
    cluster = ComputeCluster("train", size=1, ssh_key=ED25519)

    def check(urn: str) -> None:
        assert urn.endswith(f"fal:index:ComputeCluster${TYPE_TOKEN}::train-0")

    return cluster.machines[0].urn.apply(check)


@pulumi_test
def test_machines_in_different_sectors_are_a_warning(
    mocks: Mocks, monkeypatch: pytest.MonkeyPatch
) -> pulumi.Output[None]:
    """Machines in different sectors share no fast network, so a training would silently be slow."""
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda message, resource: said.append(message))
    mocks.sectors = {"train-1": "sector_1"}
    cluster = ComputeCluster("train", size=2, ssh_key=ED25519)

    def check(sector: str | None) -> None:
        assert sector == "sector_3"
        assert "in different sectors (sector_1, sector_3)" in said[0]

    return cluster.sector.apply(check)


@pulumi_test
def test_sector_is_known_while_one_machine_has_it(mocks: Mocks) -> pulumi.Output[None]:
    """Else a preview of a cluster that grows would show that all in its sector are replaced."""
    mocks.sectors = dict.fromkeys(["grown-0", "grown-2", "new-0", "requested-0"], rpc.UNKNOWN)
    mocks.sectors["grown-1"] = "sector_2"
    grown = ComputeCluster("grown", size=3, ssh_key=ED25519)
    new = ComputeCluster("new", size=1, ssh_key=ED25519)
    requested = ComputeCluster("requested", size=1, ssh_key=ED25519, sector="sector_1")

    async def check(_: object) -> None:
        assert await grown.sector.future() == "sector_2"
        assert await requested.sector.future() == "sector_1"
        assert await requested.sector.is_known()
        assert not await new.sector.is_known()

    return pulumi.Output.all(grown.urn, new.urn, requested.urn).apply(check)


@pulumi_test
def test_the_outputs_are_what_other_tools_need(mocks: Mocks) -> pulumi.Output[None]:
    """The outputs are in the order of the machines' numbers."""
    cluster = ComputeCluster("train", size=2, ssh_key=ED25519)

    def check(known: list[Any]) -> None:
        ips, main_ip, sector, hostfile, torchrun, ssh_config, inventory = known
        assert ips == ["198.18.0.0", "198.18.0.1"]
        assert main_ip == ips[0]
        assert sector == "sector_3"
        assert hostfile == "198.18.0.0 slots=8\n198.18.0.1 slots=8\n"
        assert [arguments.split()[2] for arguments in torchrun] == [
            "--node-rank=0",
            "--node-rank=1",
        ]
        assert "Host train-1\n  HostName 198.18.0.1\n" in ssh_config
        assert inventory.startswith("[train]\ntrain-0 ansible_host=198.18.0.0\n")

    return pulumi.Output.all(
        cluster.ips,
        cluster.main_ip,
        cluster.sector,
        cluster.hostfile,
        cluster.torchrun,
        cluster.ssh_config,
        cluster.inventory,
    ).apply(check)


@pulumi_test
def test_the_files_are_none_until_every_machine_has_an_ip(mocks: Mocks) -> pulumi.Output[None]:
    """A host file with some of the machines would start a training on too few."""
    mocks.without_ip.add("train-1")
    cluster = ComputeCluster("train", size=2, ssh_key=ED25519, sector="sector_1", wait=False)

    def check(known: list[Any]) -> None:
        assert known == [["198.18.0.0", None], None, None, None, None]

    files = (cluster.hostfile, cluster.torchrun, cluster.ssh_config, cluster.inventory)
    return pulumi.Output.all(cluster.ips, *files).apply(check)


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "2", None])
def test_a_size_that_is_no_number_of_machines_is_refused(size: Any, mocks: Mocks) -> None:
    """The error comes before anything is declared."""
    with pytest.raises(pulumi.RunError, match="size must be a whole number of 1 or more"):
        ComputeCluster("train", size=size, ssh_key=ED25519)
    assert mocks.asked == {}


def test_a_size_that_is_an_output_is_refused_without_its_value(mocks: Mocks) -> None:
    """A preview may not know the value, and a secret must not be printed."""
    size: Any = pulumi.Output.secret(2)
    with pytest.raises(pulumi.RunError, match=r"^size can't be an Output, because a preview has"):
        ComputeCluster("train", size=size, ssh_key=ED25519)
    assert mocks.asked == {}


def test_a_size_above_1000_is_refused(mocks: Mocks) -> None:
    """Declaring so many machines would take all memory, before anybody sees what they cost."""
    with pytest.raises(pulumi.RunError, match=r"^size must be 1000 or less"):
        ComputeCluster("train", size=10**9, ssh_key=ED25519)
    assert mocks.asked == {}


def test_an_unknown_argument_is_refused(mocks: Mocks) -> None:
    """A misspelt argument doesn't become a cluster with a default."""
    meant = (
        r"ComputeCluster train: unexpected argument instance_typ \(did you mean instance_type\?\)"
    )
    with pytest.raises(pulumi.RunError, match=meant):
        ComputeCluster("train", size=1, ssh_key=ED25519, instance_typ=EIGHT)  # type: ignore[call-overload]


def test_a_requested_sector_that_turns_out_to_be_none_is_refused(mocks: Mocks) -> None:
    """Each machine would be in a sector of its own."""
    nothing: pulumi.Output[Any] = pulumi.Output.from_input(None)

    @pulumi_test
    def program() -> pulumi.Output[Any]:
        cluster = ComputeCluster("train", size=2, ssh_key=ED25519, sector=nothing)
        return pulumi.Output.all(*(machine.urn for machine in cluster.machines))

    with pytest.raises(Exception, match="sector is an Output that is None"):
        program()
    assert nodes(mocks) == {}


@pulumi_test
def test_options_apply_to_all_machines(mocks: Mocks) -> pulumi.Output[None]:
    """A transformation sees what each machine gets, and may add to it."""
    seen: dict[str, pulumi.ResourceOptions] = {}

    def look(
        args: pulumi.ResourceTransformationArgs,
    ) -> pulumi.ResourceTransformationResult | None:
        if args.type_ == TYPE_TOKEN:
            seen[args.name] = args.opts
        return None

    other = pulumi.ComponentResource("a:b:c", "other")
    again = pulumi.ErrorHook("again", lambda args: False)
    opts = pulumi.ResourceOptions(
        custom_timeouts=pulumi.CustomTimeouts(create="2h"),
        delete_before_replace=True,
        depends_on=[other],
        hooks=pulumi.ResourceHookBinding(on_error=[again]),
        retain_on_delete=True,
        transformations=[look],
    )
    cluster = ComputeCluster("train", opts, size=2, ssh_key=ED25519)

    def check(_: object) -> None:
        assert list(seen) == ["train-0", "train-1"]
        for options in seen.values():
            assert options.custom_timeouts is not None
            assert options.custom_timeouts.create == options.custom_timeouts.update == "2h"
            assert options.delete_before_replace
            assert options.depends_on == [other]
            assert options.retain_on_delete
            assert options.hooks is not None
            assert options.hooks.on_error == [again]
        assert seen["train-0"].ignore_changes is None
        assert seen["train-1"].ignore_changes == ["sector"]

    return pulumi.Output.all(*(machine.urn for machine in cluster.machines)).apply(check)


# The provider.

CLUSTER = f"urn:pulumi:dev::shop::{CLUSTER_TYPE_TOKEN}${TYPE_TOKEN}::train"
INPUTS = {"instance_type": EIGHT, "ssh_key": ED25519}


def call(number: int = 0, size: int | None = 4, **others: Any) -> Call:
    return Call(f"{CLUSTER}-{number}", cluster_size=size, **others)


def in_state(number: int, sector: str | None, cluster: str = CLUSTER) -> StackMachine:
    return StackMachine(f"id-{number}", f"{cluster}-{number}", sector=sector)


def sectors_of_new(world: World) -> list[str | None]:
    return [machine.requested.sector for machine in world.state.existing()]


def test_a_machine_that_replaces_the_first_is_created_in_the_sector_of_the_others(
    world: World,
) -> None:
    """The API could choose another one, and the cluster would have lost a machine."""
    world.stacks.siblings = [in_state(0, "sector_1"), in_state(1, "sector_2")]
    created = operations.create(world.machines, call(), INPUTS)
    assert sectors_of_new(world) == ["sector_2"]
    assert created.outputs["sector"] == "sector_2"


def test_a_machine_that_stays_says_more_than_one_that_is_replaced(world: World) -> None:
    """An update that moves the cluster may have been interrupted."""
    leaving = replace(in_state(1, "sector_1"), is_replaced=True)
    world.stacks.siblings = [leaving, in_state(2, "sector_2")]
    operations.create(world.machines, call(), INPUTS)
    assert sectors_of_new(world) == ["sector_2"]


def test_a_cluster_of_one_keeps_its_sector(world: World) -> None:
    """What grows later has to be where the machine is."""
    world.stacks.siblings = [in_state(0, "sector_3")]
    operations.create(world.machines, call(size=1), INPUTS)
    assert sectors_of_new(world) == ["sector_3"]


def test_a_cluster_that_moves_to_the_native_plugin_is_still_one(world: World) -> None:
    """Until each machine's turn comes, state has it under the type of the dynamic provider."""
    world.stacks.siblings = [in_state(number, "sector_2") for number in (0, 1)]
    moved = [
        replace(call(number), urn=call(number).urn.replace(TYPE_TOKEN, NATIVE_TYPE_TOKEN))
        for number in (0, 2)
    ]
    operations.create(world.machines, moved[0], INPUTS)
    assert sectors_of_new(world) == ["sector_2"]
    world.state.capacity = 1
    with pytest.raises(IncompleteClusterError, match="2 of the 4 machines of cluster train exist"):
        operations.create(world.machines, moved[1], {**INPUTS, "sector": "sector_2"})


@pytest.mark.parametrize(
    "machines",
    [
        [],
        [in_state(1, None)],
        [in_state(1, "sector_2", f"{CLUSTER}-more")],
        [in_state(1, "sector_2", CLUSTER.replace(CLUSTER_TYPE_TOKEN, "a:b:C"))],
    ],
    ids=["no machine", "no sector", "another cluster", "another component"],
)
def test_the_first_machine_of_a_cluster_gets_the_sector_that_the_api_chooses(
    machines: list[StackMachine], world: World
) -> None:
    """Machines of other clusters say nothing about it."""
    world.stacks.siblings = machines
    operations.create(world.machines, call(), INPUTS)
    assert sectors_of_new(world) == [None]


def test_a_sector_that_is_requested_counts_more_than_that_of_the_others(world: World) -> None:
    """Requesting another sector is how a cluster moves."""
    world.stacks.siblings = [in_state(1, "sector_2")]
    operations.create(world.machines, call(), {**INPUTS, "sector": "sector_1"})
    assert sectors_of_new(world) == ["sector_1"]


def test_a_machine_outside_of_clusters_follows_nobody(world: World) -> None:
    """The name of any machine may look like that of a cluster's."""
    world.stacks.siblings = [in_state(1, "sector_2")]
    operations.create(world.machines, call(size=None), INPUTS)
    assert sectors_of_new(world) == [None]


@pytest.mark.parametrize(
    "machines, sector",
    [
        ([], None),
        ([in_state(0, "sector_1")], None),
        ([in_state(0, "sector_1"), in_state(1, None)], None),
        ([in_state(0, "sector_1"), in_state(1, "sector_2")], "sector_2"),
        ([in_state(2, "sector_3")], "sector_3"),
        (None, None),
    ],
    ids=["none", "first unfinished", "no sector", "another", "itself", "not read"],
)
def test_no_machine_without_the_first(
    world: World, machines: list[StackMachine] | None, sector: str | None
) -> None:
    """Its result has the sector. If it has none in this run, the others that are there decide."""
    world.stacks.siblings = machines or []
    world.stacks.in_state = None if machines is None else set()
    if sector:
        operations.create(world.machines, call(2), INPUTS)
        assert sectors_of_new(world) == [sector]
        return
    with pytest.raises(IncompleteClusterError, match=r"Machine train-2 was not created.* train-0,"):
        operations.create(world.machines, call(2), INPUTS)
    assert world.api.calls == []


@pytest.mark.parametrize("number, problems", [(0, 1), (1, 0)])
def test_sector_of_the_api_is_right(number: int, problems: int) -> None:
    """The others get the first machine's, whatever its name. A program's own may be mistyped."""
    said: list[str] = []
    here = call(number, log=lambda message, *_, **others: said.append(message))
    checked = checks.check(here, {}, {**INPUTS, "sector": "sector-1"})
    assert len(checked.failures) == problems
    assert ["does not know the sector sector-1" in text for text in said] == [True] * (1 - problems)


def test_a_state_that_cannot_be_read_is_a_warning(world: World) -> None:
    """The machine is created nevertheless, because most often it is the first of a new cluster."""
    world.stacks.in_state = None
    said: list[tuple[str, int]] = []

    def log(message: str, severity: int = 0, *, ephemeral: bool = False) -> None:
        said.append((message, severity))

    operations.create(world.machines, call(log=log), INPUTS)
    assert [severity for message, severity in said if "set `sector`" in message] == [WARNING]


def refuse(world: World, number: int, size: int) -> str:
    """The error of a create that the API refuses because the sector is full."""
    world.state.sector_capacity = len(world.state.existing())
    props = {**INPUTS, "sector": "sector_1"}
    with pytest.raises(IncompleteClusterError) as caught:
        operations.create(world.machines, call(number, size), props)
    return str(caught.value)


def test_a_full_sector_is_an_error_that_says_how_many_machines_exist(world: World) -> None:
    """Machines in state count, and those that this run has created, but none twice."""
    world.stacks.siblings = [in_state(0, "sector_1")]
    for number in (0, 1):
        operations.create(world.machines, call(number), {**INPUTS, "sector": "sector_1"})
    error = refuse(world, 2, 4)
    assert "answered 400: no capacity left in sector_1." in error
    assert "2 of the 4 machines of cluster train exist, and keep running and billing" in error
    assert "missing: train-2, train-3.\nIf the sector is full, run `pulumi up` again" in error
    assert "or set `size` to 2 to do without the rest.\nSetting another `sector`" in error


def test_a_smaller_size_is_advised_only_if_it_keeps_all_machines(world: World) -> None:
    """With a gap, a smaller size would delete a machine and still lack another."""
    world.stacks.siblings = [in_state(number, "sector_1") for number in (0, 2, 3)]
    error = refuse(world, 1, 4)
    assert "3 of the 4 machines" in error
    assert "missing: train-1." in error
    assert "set `size`" not in error


def test_machines_that_an_update_replaces_are_not_counted(world: World) -> None:
    """State keeps them until they are deleted, or even after that."""
    gone = [replace(in_state(number, "sector_1"), is_replaced=True) for number in range(4)]
    world.stacks.siblings = gone
    assert "None of the 4 machines" in refuse(world, 0, 4)


def test_a_replacement_that_is_refused_says_that_the_machine_stays(world: World) -> None:
    """The new machine is created first, so the cluster is as complete as before."""
    world.stacks.siblings = [in_state(number, "sector_1") for number in range(4)]
    assert "was not replaced, and the present one stays.\nIf the sector" in refuse(world, 1, 4)


def test_without_the_stacks_state_nothing_is_counted(world: World) -> None:
    """A count that is too low would advise a size that deletes machines."""
    world.stacks.in_state = None
    operations.create(world.machines, call(0), {**INPUTS, "sector": "sector_1"})
    error = refuse(world, 1, 4)
    assert "not known how many of the 4 machines of cluster train exist" in error
    assert "set `size`" not in error


def test_a_full_sector_without_any_machine_says_that_none_exist(world: World) -> None:
    """A size of 0 is no advice."""
    error = refuse(world, 0, 2)
    assert "None of the 2 machines of cluster train exists so far.\nIf the sector is full" in error
    assert "set `size`" not in error


def test_machines_that_a_smaller_cluster_gives_up_do_not_count(world: World) -> None:
    """While a cluster shrinks, and others are replaced, state still has the last ones."""
    world.stacks.siblings = [in_state(number, "sector_1") for number in (0, 2, 3)]
    assert "1 of the 2 machines" in refuse(world, 1, 2)


def test_a_machine_that_was_deleted_first_does_not_count(world: World) -> None:
    """With delete_before_replace, state had it when this process read it before."""
    in_use = [in_state(number, "sector_1") for number in range(4)]
    world.stacks.siblings = in_use

    def read_again() -> None:
        world.stacks.siblings = [replace(in_use[0], is_replaced=True), *in_use[1:]]

    world.stacks.forget = lambda origin: read_again()  # type: ignore[method-assign]
    error = refuse(world, 0, 4)
    assert "stays" not in error
    assert "3 of the 4 machines of cluster train exist" in error
    assert "missing: train-0." in error


class Creates:
    """Creates of the cluster's machines in threads of their own. The API refuses number 0."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.are_released = threading.Event()
        self.outcomes: dict[int, operations.Created | Exception] = {}
        world.api.before = self._before
        self.threads: list[threading.Thread] = []

    def _before(self, request: Request[Any]) -> None:
        if request.kind == "create" and threading.current_thread().name == "0":
            raise refusal(400, "no capacity left in sector_1", request)
        if request.kind == "create":
            assert self.are_released.wait(10)

    def start(self, number: int) -> None:
        """Begin that create, and return once its POST is sent."""

        def create() -> None:
            try:
                props = {**INPUTS, "sector": "sector_1"}
                outcome = operations.create(self.world.machines, call(number), props)
            except IncompleteClusterError as error:
                self.outcomes[number] = error
            else:
                self.outcomes[number] = outcome

        sent = self.world.api.calls.count("create")
        self.threads.append(threading.Thread(target=create, name=str(number)))
        self.threads[-1].start()
        wait_until(lambda: self.world.api.calls.count("create") > sent)

    def end(self) -> str:
        """Let all end; the refusal."""
        self.are_released.set()
        for thread in self.threads:
            thread.join(10)
        return str(self.outcomes[0])


def test_a_refusal_waits_for_the_creates_that_are_in_flight(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API may be about to accept some of them, and the count would be too low."""
    creates, waits = Creates(world), threading.Event()
    urns = world.creates.in_flight.urns

    def wait(wanted: Callable[[str], bool], seconds: float = 0.0) -> set[str]:
        if seconds:
            waits.set()
        return urns(wanted, seconds)

    monkeypatch.setattr(world.creates.in_flight, "urns", wait)
    for number in (1, 2, 0):
        creates.start(number)
    assert waits.wait(10)
    assert "2 of the 4 machines of cluster train exist" in creates.end()


def test_while_a_create_is_in_flight_no_number_is_stated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API may take minutes to answer, and a number would soon be wrong."""
    monkeypatch.setattr(cluster, "_QUIET_SECONDS", 0.05)
    creates = Creates(world)
    for number in (2, 1, 0):
        creates.start(number)
    wait_until(lambda: 0 in creates.outcomes)
    assert (
        "The creates of other machines have no result yet (train-1, train-2), so it is not known "
        "how many of the 4 machines of cluster train exist.\n"
        "To list the account's machines, run `pulumi-fal ls`."
    ) in creates.end()
    assert world.state.creations == 2


def test_a_create_is_no_longer_in_flight_once_its_machine_is_on_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A create whose machine is on record may wait for that machine for an hour."""
    monkeypatch.setattr(cluster, "_QUIET_SECONDS", 0.05)
    refusals: list[str] = []

    def refuse_another(message: str, severity: int = 0, *, ephemeral: bool = False) -> None:
        if not refusals:  # the first machine is shown for the first time, and is not ready
            assert world.creates.in_flight.urns(lambda urn: True, 0) == set()
            refusals.append(refuse(world, 1, 4))

    world.state.provisioning = 100
    waiting = call(0, log=refuse_another)
    operations.create(world.machines, waiting, {**INPUTS, "sector": "sector_1"})
    assert "1 of the 4 machines of cluster train exist" in refusals[0]


def test_a_create_that_is_about_to_be_sent_leaves_the_number_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a create may still wait for a lock or for a list, so it is not on record yet."""
    monkeypatch.setattr(cluster, "_QUIET_SECONDS", 0.05)
    counted = world.creates.in_flight.counted
    with counted(f"{CLUSTER}-1"), counted(f"{CLUSTER}-more-2"):
        assert "no result yet (train-1), so it is not known" in refuse(world, 0, 4)
    assert "None of the 4 machines" in refuse(world, 0, 4)


def test_a_create_without_an_answer_leaves_the_number_open(world: World) -> None:
    """The machine of such a create may exist, and another `up` finds out."""
    entry = world.earlier(Phase.REQUESTED, origin=replace(HERE, urn=f"{CLUSTER}-2"))
    assert "no result yet (train-2), so it is not known how many" in refuse(world, 0, 4)
    world.journal.write(replace(entry, instance_id="id-2", phase=Phase.CREATED))
    assert "1 of the 4 machines" in refuse(world, 0, 4)


def test_a_conflict_is_a_refusal_of_a_clusters_machine_as_well(world: World) -> None:
    """fal does not document how it says that there is no room."""
    world.api.faults.add("create", "409")
    with pytest.raises(IncompleteClusterError, match="answered 409"):
        operations.create(world.machines, call(), INPUTS)


def test_other_refusals_stay_as_they_are(world: World) -> None:
    """A machine outside of clusters gets the API's own words."""

    def refuse_create(request: Request[Any]) -> None:
        if request.kind == "create":
            raise refusal(400, "no", request)

    world.api.before = refuse_create
    with pytest.raises(InvalidRequestError) as caught:
        operations.create(world.machines, call(size=None), {**INPUTS, "ssh_key": RSA})
    assert "cluster" not in str(caught.value)


def test_the_cluster_is_of_no_concern_in_a_preview(world: World) -> None:
    """A preview reads no state and asks no API."""
    world.stacks.in_state = None
    preview = replace(call(), preview=True)
    assert operations.create(world.machines, preview, INPUTS).id == ""
    assert world.api.requests == []
