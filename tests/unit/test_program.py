"""A program that declares machines, under Pulumi's own mocks: what users' unit tests do."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pulumi
import pytest
from pulumi import dynamic
from pulumi.runtime.mocks import MockMonitor

from pulumi_fal import (
    ComputeCluster,
    ComputeInstance,
    ComputeInstanceArgs,
    InstanceType,
    Sector,
    get_instance,
    get_instances,
)
from pulumi_fal.api.models import NewInstance
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.provider import ComputeInstanceProvider
from pulumi_fal.tokens import TYPE_TOKEN

from ..fakes import ED25519, EIGHT, ONE
from .programs import WITH_MOCKS, KeepingMocks, pulumi_test, running, set_mocks

pytestmark = WITH_MOCKS


class Mocks(KeepingMocks):
    """Answers as fal would, and keeps what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[pulumi.runtime.MockResourceArgs] = []
        self.read: dict[str, Any] = {"sector": "sector_3", "status": "ready"}
        """What a machine that is read by its id looks like."""

    def new_resource(
        self, args: pulumi.runtime.MockResourceArgs
    ) -> tuple[str | None, dict[Any, Any]]:
        self.asked[args.name] = args
        self.all.append(args)
        if args.resource_id:
            return args.resource_id, {"instance_type": EIGHT, **self.read}
        return f"{args.name}-id", {"sector": "sector_3", **args.inputs, "ip": "192.0.2.1"}


@pytest.fixture
def mocks() -> Iterator[Mocks]:
    yield from running(Mocks())


@pulumi_test
def test_both_forms(monitor: Monitor) -> pulumi.Output[None]:
    """Typed arguments and keywords ask the engine for the same, under the token that state holds.

    Another token would make every existing stack replace all its machines.
    """
    mocks: Any = monitor.mocks
    asked: dict[str, Any] = {
        "instance_type": InstanceType.GPU_8X_H100_SXM5,
        "ssh_key": ED25519,
        "sector": Sector.SECTOR_1,
        "wait": False,
    }
    opts = pulumi.ResourceOptions(
        custom_timeouts=pulumi.CustomTimeouts(create="1.5h", delete="1h30m")
    )
    typed = ComputeInstance("typed", ComputeInstanceArgs(**asked), opts)
    named = ComputeInstance("named", **asked)

    def compare(known: list[Any]) -> None:
        inputs = mocks.asked["typed"].inputs
        assert inputs == mocks.asked["named"].inputs
        assert inputs.items() >= {**asked, "instance_type": EIGHT, "sector": "sector_1"}.items()
        assert known[1:] == ["typed-id", "192.0.2.1", "sector_1"]
        assert mocks.asked["typed"].typ == "pulumi-python:dynamic/fal:ComputeInstance"
        # An update goes on with the wait of the create.
        assert monitor.requests["typed"].customTimeouts.update == "1.5h"

    return pulumi.Output.all(named.urn, typed.id, typed.ip, typed.sector).apply(compare)


READ = [
    ({"status": "pending"}, "sector_3"),
    ({"sector": None}, None),
    ({"sector": None, "status": "pending", "instance_type": ONE}, None),
    ({"sector": None, "status": "pending"}, "unknown"),
    ({"sector": None, "status": "pending", "instance_type": "gpu_8x_b200"}, "unknown"),
]
"""How a machine that is read may differ from one that is ready, and its sector."""


@pytest.mark.parametrize("shown, sector", READ)
def test_read_sector(mocks: Mocks, shown: dict[str, Any], sector: str | None) -> None:
    """Until the API shows it, it is unknown, and what it is passed on to is not created."""
    mocks.read |= shown
    is_known = sector != "unknown"

    @pulumi_test
    def read() -> pulumi.Output[None]:
        there = ComputeInstance.get("there", "an-id")

        async def check(_: object) -> None:
            assert await there.sector.is_known() is is_known
            assert await there.sector.future() == (sector if is_known else None)

        return there.urn.apply(check)

    @pulumi_test
    def follow() -> pulumi.Output[Any]:
        its: Any = ComputeInstance.get("there", "an-id").sector
        box = ComputeInstance("box", instance_type=EIGHT, ssh_key=ED25519, sector=its)
        train = ComputeCluster("train", size=1, ssh_key=ED25519, sector=its)
        return pulumi.Output.all(box.urn, train.machines[0].urn)

    read()
    if sector is None:  # a cluster refuses it
        return
    refused = pytest.raises(Exception, match="whose sector the API does not show yet")
    with nullcontext() if is_known else refused:
        follow()
    assert [name in mocks.asked for name in ("box", "train-0")] == [is_known] * 2


class Monitor(MockMonitor):
    """Keeps the requests to register a resource, by the resource's name."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.requests: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - of gRPC
        self.requests[request.name] = request
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


@pytest.fixture
def monitor() -> Monitor:
    mocks = Mocks()
    monitor = Monitor(mocks)
    set_mocks(mocks, monitor)
    return monitor


class Plain(dynamic.Resource, module="fal", name="ComputeInstance"):
    """A ComputeInstance, declared with the SDK's own constructor."""


@pulumi_test
def test_same_request_as_sdk(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> pulumi.Output[None]:
    """ComputeInstance leaves that constructor out, so nothing that it does may be missing."""
    monkeypatch.setattr(pickle, "DEFAULT_PROTOCOL", 4)  # as up to Python 3.13
    ours = ComputeInstance("box", instance_type=ONE, ssh_key=ED25519)
    props = {"instance_type": ONE, "ssh_key": ED25519}
    plain = Plain(ComputeInstanceProvider(), "plain", props)

    def compare(_: object) -> None:
        asked, expected = monitor.requests["box"], monitor.requests["plain"]
        expected.name = "box"
        for request in (asked, expected):
            request.ClearField("sourcePosition")
            request.ClearField("stackTrace")
        assert asked == expected

    return pulumi.Output.all(ours.urn, plain.urn).apply(compare)


@pulumi_test
def test_aliases(mocks: Mocks) -> pulumi.Output[None]:
    """The aliases of its parent count as well. A create may be left under any of these URNs."""

    class Parent(pulumi.ComponentResource):
        def __init__(self, *aliases: pulumi.Alias) -> None:
            opts = pulumi.ResourceOptions(aliases=list(aliases))
            super().__init__("my:index:Parent", "parent", None, opts)

    def declare(name: str, **options: Any) -> ComputeInstance:
        opts = pulumi.ResourceOptions(**options)
        return ComputeInstance(name, instance_type=ONE, ssh_key=ED25519, opts=opts)

    root = pulumi.Alias(name="old", parent=pulumi.ROOT_STACK_RESOURCE)
    machines = [
        declare("plain"),
        declare("renamed", aliases=[pulumi.Alias(name="old")]),
        declare("moved", parent=Parent(), aliases=[root]),
        declare("below", parent=Parent(pulumi.Alias(name="elsewhere"))),
    ]
    old, below = (
        [f"urn:pulumi:dev::project::{parent}{TYPE_TOKEN}::{name}"]
        for parent, name in (("", "old"), ("my:index:Parent$", "below"))
    )

    def check(_: object) -> None:
        names = ("plain", "renamed", "moved", "below")
        told = [mocks.asked[name].inputs.get("__aliases") for name in names]
        assert told == [None, old, old, below]

    return pulumi.Output.all(*(machine.urn for machine in machines)).apply(check)


@pulumi_test
def test_left_out(mocks: Mocks) -> pulumi.Output[None]:
    """A required input reaches check, which can show all problems at once: no TypeError."""
    machine: Any = ComputeInstance("machine", instance_type=ONE)  # type: ignore[call-overload]

    def check(_: object) -> None:
        assert mocks.asked["machine"].inputs.get("ssh_key") is None

    return machine.urn.apply(check)  # type: ignore[no-any-return]


def timed(timeouts: Any) -> dict[str, Any]:
    """The options of a machine, and inputs that are right."""
    opts = pulumi.ResourceOptions(custom_timeouts=timeouts)
    return {"opts": opts, "instance_type": ONE, "ssh_key": ED25519}


PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA"
BY_NAME = "ComputeInstance m: pass the inputs by name, such as instance_type=..."
TIMEOUTS = "ComputeInstance m: custom_timeouts"
ARGS = ComputeInstanceArgs(instance_type="a", ssh_key="b")


@pytest.mark.parametrize(
    "positional, named, says",
    [
        ([], {"instance_type": EIGHT, "ssh_key": PRIVATE}, "is a PRIVATE key"),
        ([ONE, ED25519], {}, BY_NAME),
        ([None, None, None], {}, BY_NAME),
        ([], {"wait_for_capicity": "6h"}, "wait_for_capicity (did you mean wait_for_capacity?)"),
        ([ARGS], {"ssh_key": "c"}, "ssh_key"),
        # The engine would not say of which resource.
        ([], timed(pulumi.CustomTimeouts(create="90 minutes")), TIMEOUTS),
        ([], timed(pulumi.CustomTimeouts(delete="90")), TIMEOUTS),
        ([], timed("90 minutes"), TIMEOUTS),
    ],
)
def test_refused(mocks: Mocks, positional: list[Any], named: dict[str, Any], says: str) -> None:
    """A mistake is told without a traceback, before the engine is asked for a machine."""
    with pytest.raises(pulumi.RunError, match=re.escape(says)):
        ComputeInstance("m", *positional, **named)
    assert mocks.asked == {}


# Lookups


def test_each_stack_has_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that runs several stacks asks for each with its own key, endpoint and API."""
    for name in ("FAL_COMPUTE_ENDPOINT", "FAL_ADMIN_API_KEY", "FAL_KEY", "FAL_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    try:
        for key, region in (("one", None), ("two", "us-west")):
            api = "v1" if region else "legacy"
            with EmulatorServer(api_key=key, api=api) as account:
                made = account.state.create(NewInstance(ONE, ED25519))
                config = {"fal:endpoint": account.endpoint, "fal:apiKey": key, "fal:api": api}
                pulumi.runtime.set_all_config(config)
                assert [machine.region for machine in get_instances()] == [region]
                assert get_instance(made.id).id == made.id
                found = get_instances(region="us-west", instance_type=ONE)
                assert [machine.id for machine in found] == ([made.id] if region else [])
                assert get_instances(region="us-west", status="pending") == []
    finally:
        pulumi.runtime.set_all_config({})
