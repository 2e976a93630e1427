"""A ComputeCluster under Pulumi's own mocks, its files, and what the provider does for it."""

from __future__ import annotations

import configparser
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime import rpc

from pulumi_fal import ComputeCluster, ComputeClusterArgs, Sector
from pulumi_fal.errors import IncompleteClusterError
from pulumi_fal.hosts import access
from pulumi_fal.resource import operations
from pulumi_fal.resource.call import WARNING, Call
from pulumi_fal.stacks.state import StackMachine
from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, NATIVE_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import ED25519, EIGHT, ONE
from .programs import WITH_MOCKS, KeepingMocks, pulumi_test, running
from .world import INPUTS, Log, World

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
    yield from running(Mocks())


def nodes(mocks: Mocks) -> dict[str, dict[str, Any]]:
    return {
        name: {key: value for key, value in args.inputs.items() if not key.startswith("__")}
        for name, args in mocks.asked.items()
        if args.typ == TYPE_TOKEN
    }


SECTOR_2, SECTOR_3 = {"sector": "sector_2"}, {"sector": "sector_3"}
NO_SSH = {"wait_for_ssh": False}
SMALL = {"instance_type": ONE}
AWAY, SSH, PATIENT = {"wait": False}, {"wait_for_ssh": True}, {"wait_for_capacity": "6h"}


@pytest.mark.parametrize(
    "arguments, first, others",
    [
        pytest.param({"sector": Sector.SECTOR_2}, SECTOR_2, SECTOR_2, id="all at once"),
        pytest.param({}, {}, SECTOR_3, id="the others follow the first"),
        pytest.param(AWAY, {}, {**SECTOR_3, **AWAY}, id="the first is awaited nevertheless"),
        pytest.param({**AWAY, **SECTOR_2}, {**SECTOR_2, **AWAY}, {**SECTOR_2, **AWAY}, id="none"),
        pytest.param(SSH, SSH, {**SECTOR_3, **SSH}, id="each waits for SSH"),
        pytest.param({**AWAY, **NO_SSH}, NO_SSH, {**AWAY, **NO_SSH, **SECTOR_3}, id="SSH is off"),
        pytest.param({**AWAY, **SSH}, {**AWAY, **SSH}, {**AWAY, **SSH, **SECTOR_3}, id="refused"),
        pytest.param(PATIENT, PATIENT, {**SECTOR_3, **PATIENT}, id="each waits for capacity"),
        pytest.param({**AWAY, **SMALL}, {**AWAY, **SMALL}, {**AWAY, **SMALL}, id="1x"),
    ],
)
@pulumi_test
def test_machines(
    mocks: Mocks, arguments: dict[str, Any], first: dict[str, Any], others: dict[str, Any]
) -> pulumi.Output[None]:
    """Each machine gets the cluster's inputs, and by default the sector of the first, if any."""
    cluster = ComputeCluster("train", ComputeClusterArgs(size=3, ssh_key=ED25519, **arguments))
    every = {"instance_type": EIGHT, "ssh_key": ED25519}

    def check(urn: str) -> None:
        assert urn.endswith(f"fal:index:ComputeCluster${TYPE_TOKEN}::train-0")
        expected = {"train-0": first, "train-1": others, "train-2": others}
        asked = nodes(mocks)
        assert asked == {name: {**every, **inputs} for name, inputs in expected.items()}

    return pulumi.Output.all(*(machine.urn for machine in cluster.machines)).apply(
        lambda urns: check(urns[0])
    )


@pytest.mark.parametrize("kind, ip", [("gpu_8x_b200", "198.18.0.1"), (EIGHT, None)])
def test_no_files(mocks: Mocks, kind: str, ip: str | None) -> None:
    """How many GPUs a newer type has is not guessed from its name.

    A host file with some of the machines would start a training on too few.
    """

    @pulumi_test
    def program() -> pulumi.Output[None]:
        mocks.without_ip = set() if ip else {"train-1"}
        options: dict[str, Any] = {} if ip else {"sector": "sector_1", "wait": False}
        cluster = ComputeCluster("train", size=2, ssh_key=ED25519, instance_type=kind, **options)

        def check(known: list[Any]) -> None:
            ips, hostfile, torchrun, ssh_config, inventory = known
            assert (ips, hostfile, torchrun) == (["198.18.0.0", ip], None, None)
            assert bool(ssh_config) is bool(inventory) is bool(ip)

        files = (cluster.hostfile, cluster.torchrun, cluster.ssh_config, cluster.inventory)
        return pulumi.Output.all(cluster.ips, *files).apply(check)

    program()


@pulumi_test
def test_different_sectors(mocks: Mocks, monkeypatch: pytest.MonkeyPatch) -> pulumi.Output[None]:
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
def test_sector_in_preview(mocks: Mocks) -> pulumi.Output[None]:
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


NO_SIZE = "size must be a whole number of 1 or more"


@pytest.mark.parametrize(
    "arguments, problem",
    [
        *(({"size": size}, NO_SIZE) for size in (0, True, 2.0, "2", None)),
        (
            {"size": lambda: pulumi.Output.secret(2)},
            "^size can't be an Output, because a preview has",
        ),
        ({"size": 10**9}, "^size must be 1000 or less"),
        ({"instance_typ": EIGHT}, r"unexpected argument instance_typ \(did you mean instance_type"),
    ],
)
def test_refuses(mocks: Mocks, arguments: dict[str, Any], problem: str) -> None:
    """The error comes before any machine is declared."""
    # An Output needs an event loop, which some Pythons don't have when tests are collected.
    given = {name: value() if callable(value) else value for name, value in arguments.items()}
    with pytest.raises(pulumi.RunError, match=problem):
        ComputeCluster("train", **{"size": 2, "ssh_key": ED25519, **given})
    assert nodes(mocks) == {}


def test_sector_of_none(mocks: Mocks) -> None:
    """Each machine would be in a sector of its own."""
    nothing: pulumi.Output[Any] = pulumi.Output.from_input(None)

    @pulumi_test
    def program() -> pulumi.Output[Any]:
        cluster = ComputeCluster("train", size=2, ssh_key=ED25519, sector=nothing)
        return pulumi.Output.all(*(machine.urn for machine in cluster.machines))

    with pytest.raises(Exception, match="sector is an Output that is None"):
        program()
    assert nodes(mocks) == {}


# The files by which other tools reach the machines, in the formats of their documentation.

IPS = ["198.18.0.1", "198.18.0.2"]
BY_NAME = {"train-0": IPS[0], "train-1": IPS[1]}


def test_torchrun() -> None:
    """The first machine is the endpoint, so all ranks find each other there."""
    common = "--nnodes=2 --nproc-per-node=8 --node-rank={} --rdzv-endpoint=198.18.0.1:29500"
    assert [access.torchrun(IPS, node, 8) for node in range(2)] == [
        common.format(0),
        common.format(1),
    ]
    assert "--rdzv-endpoint=[2001:db8::1]:29500" in access.torchrun(["2001:db8::1"], 0, 8)
    for node in (-1, 2):  # a negative number must not count from the end
        with pytest.raises(IndexError, match=f"no machine number {node} among 2"):
            access.torchrun(IPS, node, 8)


def test_files() -> None:
    """Host keys are kept by id, because addresses are used again. A group is an identifier."""
    assert access.hostfile(IPS, 8) == "198.18.0.1 slots=8\n198.18.0.2 slots=8\n"
    blocks = access.ssh_config(BY_NAME, dict.fromkeys(BY_NAME, "id\n")).split("\n\n")
    assert blocks[1].splitlines()[:3] == ["Host train-1", "  HostName 198.18.0.2", "  User ubuntu"]
    assert all("\n  HostKeyAlias id_\n" in block for block in blocks)
    assert all("UserKnownHostsFile ~/.ssh/known_hosts.fal" in block for block in blocks)
    parser = configparser.ConfigParser(allow_no_value=True, delimiters=("=",))
    parser.read_string(access.inventory("8-train", BY_NAME).replace(" ansible_host=", "="))
    assert dict(parser["_8_train"]) == BY_NAME
    assert dict(parser["_8_train:vars"]) == {"ansible_user": "ubuntu"}


LOG_IN = {"user": "ubuntu", "identity_file": access.IDENTITY, "hosts": IPS}


@pytest.mark.parametrize(
    "name, label",
    [
        ("train", "train"),
        ("on", "on"),  # which would be True in YAML without quotes
        ("8 Train\nx: y", "fal-8-train-x--y"),
        ("x", "fal-x"),
        ("a" * 50, "a" * 41),
    ],
)
def test_label(name: str, label: str) -> None:
    assert yaml.safe_load(access.skypilot(name, IPS)) == {label: LOG_IN}
    assert yaml.safe_load(access.dstack(name, IPS, []))["name"] == label


@pytest.mark.parametrize(
    "sectors, placement",
    [
        (["sector_1", "sector_1"], "cluster"),
        (["sector_1", "sector_2"], "any"),
        (["sector_1", None], "any"),
        ([None, None], "any"),
    ],
)
def test_dstack(sectors: list[str | None], placement: str) -> None:
    """dstack runs tasks with several nodes on a cluster only, which has a network in common."""
    fleet = yaml.safe_load(access.dstack("train", IPS, sectors, 'a "key"'))
    assert fleet == {
        "type": "fleet",
        "name": "train",
        "placement": placement,
        "ssh_config": {**LOG_IN, "identity_file": 'a "key"'},
    }


@pytest.mark.parametrize("name", ["a b", "a\nProxyCommand x", "*", "-o", "a#b"])
def test_name_in_file(name: str) -> None:
    """A name with a line break, a pattern or a space would say something else to the tool."""
    alias = access.alias(name)
    assert set(alias) <= set("abProxyCmndox_09-.")
    assert not alias.startswith("-")
    assert access.ssh_config({name: IPS[0]}, {name: "id"}).splitlines()[0] == f"Host {alias}"
    assert f"\n{alias} ansible_host=" in access.inventory(name, {name: IPS[0]})


@pytest.mark.parametrize(
    "ip", ["", "198.18.0.1\n  ProxyCommand x", "198.18.0.1 -x", "fe80::1%x\n  ProxyCommand x"]
)
@pytest.mark.parametrize(
    "write",
    [
        lambda ip: access.hostfile([ip], 8),
        lambda ip: access.torchrun([ip], 0, 8),
        lambda ip: access.ssh_config({"a": ip}, {"a": "id"}),
        lambda ip: access.inventory("a", {"a": ip}),
        lambda ip: access.skypilot("a", [ip]),
        lambda ip: access.dstack("a", [ip], []),
    ],
)
def test_only_addresses(write: Callable[[str], str], ip: str) -> None:
    """A damaged state must not become an option of ssh."""
    with pytest.raises(ValueError, match="does not appear to be"):
        write(ip)


# The provider.

CLUSTER = f"urn:pulumi:dev::shop::{CLUSTER_TYPE_TOKEN}${TYPE_TOKEN}::train"


def call(number: int = 0, **others: Any) -> Call:
    return Call(f"{CLUSTER}-{number}", **others)


def in_state(number: int, sector: str | None, cluster: str = CLUSTER) -> StackMachine:
    return StackMachine(f"id-{number}", f"{cluster}-{number}", sector=sector)


def create(world: World, of: Call, **inputs: str) -> str | None:
    """The sector that a new machine is requested in."""
    world.create(of, **{"sector": None, **inputs})
    return world.state.existing()[-1].requested.sector


LEAVING = replace(in_state(1, "sector_1"), is_replaced=True)
OTHER = CLUSTER.replace(CLUSTER_TYPE_TOKEN, "a:b:C")


MORE = f"{CLUSTER}-more"
SECTORS: dict[str, tuple[int, list[StackMachine], dict[str, str], str | None]] = {
    "a new cluster": (0, [], {}, None),
    "machines without a sector": (0, [in_state(1, None)], {}, None),
    "beside another": (0, [in_state(1, "sector_2", MORE)], {}, None),
    "beside another component": (0, [in_state(1, "sector_2", OTHER)], {}, None),
    "a cluster of one": (0, [in_state(0, "sector_3")], {}, "sector_3"),
    "others stay": (0, [in_state(0, "sector_1"), in_state(1, "sector_2")], {}, "sector_2"),
    "another leaves": (0, [LEAVING, in_state(2, "sector_2")], {}, "sector_2"),
    "requested": (0, [in_state(1, "sector_2")], SECTOR_3, "sector_3"),
    "a third": (2, [in_state(0, "sector_1"), in_state(1, "sector_2")], {}, "sector_2"),
    "it replaces itself": (2, [in_state(2, "sector_3")], {}, "sector_3"),
    "1x, once 8x": (2, [in_state(1, "sector_2")], SMALL, None),
}


@pytest.mark.parametrize("name", SECTORS)
def test_sector(world: World, name: str) -> None:
    """The API could choose another one, and the cluster would have lost a machine."""
    number, world.stacks.siblings, inputs, sector = SECTORS[name]
    assert create(world, call(number), **inputs) == sector


@pytest.mark.parametrize(
    "machines",
    [[in_state(0, "sector_1")], [in_state(0, "sector_1"), in_state(1, None)], None],
    ids=["first unfinished", "no sector", "not read"],
)
def test_first_is_missing(world: World, machines: list[StackMachine] | None) -> None:
    """Its result has the sector. If it has none in this run, the others that are there decide."""
    world.stacks.siblings = machines or []
    world.stacks.in_state = None if machines is None else set()
    with pytest.raises(IncompleteClusterError, match=r"Machine train-2 was not created.* train-0,"):
        create(world, call(2))
    assert world.api.calls == []


def test_first_is_not_in_state_yet(world: World) -> None:
    create(world, call())
    with pytest.raises(IncompleteClusterError, match=r"Machine train-1 was not created"):
        create(world, call(1))


def test_moves_to_native(world: World) -> None:
    """Until each machine's turn comes, state has it under the type of the dynamic provider."""
    world.stacks.siblings = [in_state(number, "sector_2") for number in (0, 1)]
    for number in (0, 2):
        urn = call(number).urn.replace(TYPE_TOKEN, NATIVE_TYPE_TOKEN)
        assert create(world, Call(urn)) == "sector_2"


@pytest.mark.parametrize(
    "parents, name, is_followed",
    [
        ("{cluster}$", "train-1", True),
        ("my:index:Lab${cluster}$", "train-1", True),
        ("my:index:Lab$", "train-1", False),
        ("{cluster}$my:index:Extra$", "train-1", False),
        ("{cluster}$", "login", False),
        ("{cluster}$", "login-1", False),
    ],
)
def test_urn(world: World, parents: str, name: str, is_followed: bool) -> None:
    """The name of any machine may look like that of a cluster's, and a cluster has any children."""
    types = f"urn:pulumi:dev::shop::{parents.format(cluster=CLUSTER_TYPE_TOKEN)}{TYPE_TOKEN}"
    world.stacks.siblings = [StackMachine("id-2", f"{types}::train-2", sector="sector_2")]
    assert create(world, Call(f"{types}::{name}")) == ("sector_2" if is_followed else None)


@pytest.mark.parametrize("number, problems", [(0, 1), (1, 0)])
def test_sector_of_the_api(number: int, problems: int) -> None:
    """The others get the first machine's, whatever its name. A program's own may be mistyped."""
    log = Log()
    checked = operations.check(call(number, log=log), {}, {**INPUTS, "sector": "sector-1"})
    assert len(checked.failures) == problems
    found = ["does not know the sector sector-1" in text for text in log.texts]
    assert found == [True] * (1 - problems)


def test_state_unread(world: World) -> None:
    """The first machine is created with a warning. A preview reads no state and asks no API."""
    world.stacks.in_state = None
    log = Log()
    world.create(call(log=log, preview=True), sector=None)
    assert (log.texts, world.api.calls) == ([], [])
    world.create(call(log=log), sector=None)
    warned = [text for text, sev in zip(log.texts, log.severities, strict=True) if sev == WARNING]
    assert ["set `sector`" in text for text in warned] == [True]


def test_refused(world: World) -> None:
    """Which other machines exist, `pulumi-fal ls` says: during creates, a number would be wrong."""
    world.state.sector_capacity = 0
    with pytest.raises(IncompleteClusterError) as caught:
        create(world, call(2), sector="sector_1")
    said = (
        "Other machines of cluster train may exist, and are billed. To list them:\n  pulumi-fal ls"
    )
    assert str(caught.value).endswith(said)
    assert "request another sector" not in str(caught.value)
