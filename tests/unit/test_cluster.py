"""A ComputeCluster under Pulumi's own mocks, and what the provider does for its machines."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pulumi
import pytest
from pulumi.runtime import rpc

from pulumi_fal import ComputeCluster, ComputeClusterArgs, InstanceType, Sector
from pulumi_fal.errors import IncompleteClusterError, InvalidRequestError, NotReplacedError
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import WARNING, Call
from pulumi_fal.stacks.state import StackMachine
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, NATIVE_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import ED25519, EIGHT, ONE, URN
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
    """The first machine, whose sector the others wait for, asks again for as long as they do."""
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
    """A growing cluster must not show that all machines in its sector are replaced."""
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


def call(number: int = 0, **others: Any) -> Call:
    return Call(f"{CLUSTER}-{number}", **others)


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
    operations.create(world.machines, call(), INPUTS)
    assert sectors_of_new(world) == ["sector_3"]


def test_a_cluster_that_moves_to_the_native_plugin_is_still_one(world: World) -> None:
    """Until each machine's turn comes, state has it under the type of the dynamic provider."""
    world.stacks.siblings = [in_state(number, "sector_2") for number in (0, 1)]
    for number in (0, 2):
        urn = call(number).urn.replace(TYPE_TOKEN, NATIVE_TYPE_TOKEN)
        operations.create(world.machines, Call(urn), INPUTS)
    assert sectors_of_new(world) == ["sector_2"] * 2


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


@pytest.mark.parametrize("host", [TYPE_TOKEN, NATIVE_TYPE_TOKEN])
@pytest.mark.parametrize(
    "parents, name, is_followed",
    [
        ("{cluster}$", "train-1", True),
        ("my:index:Lab${cluster}$", "train-1", True),
        ("", "train-1", False),
        ("my:index:Lab$", "train-1", False),
        ("{cluster}$my:index:Extra$", "train-1", False),
        ("{cluster}$", "login", False),
    ],
)
def test_the_urn_tells_a_clusters_machine(
    world: World, host: str, parents: str, name: str, is_followed: bool
) -> None:
    """The name of any machine may look like that of a cluster's, and a cluster has any children."""
    types = f"urn:pulumi:dev::shop::{parents.format(cluster=CLUSTER_TYPE_TOKEN)}{host}"
    world.stacks.siblings = [StackMachine("id-2", f"{types}::train-2", sector="sector_2")]
    operations.create(world.machines, Call(f"{types}::{name}"), INPUTS)
    assert sectors_of_new(world) == ["sector_2" if is_followed else None]


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
    checked = operations.check(here, {}, {**INPUTS, "sector": "sector-1"})
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


def test_a_refusal_says_that_other_machines_may_exist(world: World) -> None:
    """Which ones, `pulumi-fal ls` says: while creates are under way, a number would be wrong."""
    world.state.sector_capacity = 0
    with pytest.raises(IncompleteClusterError) as caught:
        operations.create(world.machines, call(2), {**INPUTS, "sector": "sector_1"})
    assert str(caught.value) == (
        "Machine train-2 was not created: "
        "POST /compute/instance answered 400: no capacity left in sector_1.\n"
        "If the sector is full, run `pulumi up` again when it has room.\n"
        "Other machines of cluster train may exist, and are billed. To list them:\n"
        "  pulumi-fal ls"
    )


def test_a_replacement_that_is_refused_says_that_the_machine_stays(world: World) -> None:
    """As for a machine outside of clusters."""
    world.stacks.siblings = [in_state(number, "sector_1") for number in range(4)]
    world.state.sector_capacity = 0
    with pytest.raises(NotReplacedError, match=r"\nMachine id-1 was not replaced\. It stays, and"):
        operations.create(world.machines, call(1), {**INPUTS, "sector": "sector_1"})


def test_a_conflict_is_a_refusal_of_a_clusters_machine_as_well(world: World) -> None:
    """fal does not document how it says that there is no room."""
    world.api.faults.add("create", "409")
    with pytest.raises(IncompleteClusterError, match="answered 409"):
        operations.create(world.machines, call(), INPUTS)


def test_other_refusals_stay_as_they_are(world: World) -> None:
    """A machine outside of clusters gets the API's own words."""
    world.state.sector_capacity = 0
    with pytest.raises(InvalidRequestError) as caught:
        operations.create(world.machines, Call(URN), {**INPUTS, "sector": "sector_1"})
    assert "cluster" not in str(caught.value)


def test_the_size_that_earlier_versions_passed_on_is_no_input(world: World) -> None:
    """Check has always removed it, so no state has it. If one does, no machine is replaced."""
    earlier = {**INPUTS, "__cluster_size": 3}
    inputs = operations.check(call(), earlier, earlier).inputs
    assert inputs == INPUTS
    olds = {**earlier, "sector": "sector_1", "status": "ready"}
    diff = operations.diff(world.machines, call(), "id-0", olds, inputs, earlier)
    assert (diff.replaces, diff.changes) == ([], None)


def test_the_cluster_is_of_no_concern_in_a_preview(world: World) -> None:
    """A preview reads no state and asks no API."""
    world.stacks.in_state = None
    preview = replace(call(), preview=True)
    assert operations.create(world.machines, preview, INPUTS).id == ""
    assert world.api.requests == []
