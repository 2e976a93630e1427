"""A program that declares machines, under Pulumi's own mocks: what users' unit tests do."""

from __future__ import annotations

import inspect
import pickle
import re
from contextlib import nullcontext
from pathlib import Path
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
)
from pulumi_fal.provider import ComputeInstanceProvider
from pulumi_fal.tokens import TYPE_TOKEN

from ..fakes import ED25519, EIGHT, ONE
from ..plugin.harness import PROVIDER
from .programs import WITH_MOCKS, KeepingMocks, pulumi_test, set_mocks

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
def mocks() -> Mocks:
    mocks = Mocks()
    set_mocks(mocks)
    return mocks


@pulumi_test
def test_typed_arguments_and_keywords_ask_for_the_same(mocks: Mocks) -> pulumi.Output[None]:
    """The two forms of the constructor differ in nothing that the engine sees."""
    asked: dict[str, Any] = {
        "instance_type": InstanceType.GPU_8X_H100_SXM5,
        "ssh_key": ED25519,
        "sector": Sector.SECTOR_1,
        "wait": False,
    }
    typed = ComputeInstance("typed", ComputeInstanceArgs(**asked))
    named = ComputeInstance("named", **asked)

    def compare(_: object) -> None:
        of_one, of_other = (mocks.asked[name].inputs for name in ("typed", "named"))
        assert of_one == of_other
        assert of_one["instance_type"] == EIGHT
        assert of_one["sector"] == "sector_1"
        assert of_one["wait"] is False

    return pulumi.Output.all(typed.urn, named.urn).apply(compare)


@pulumi_test
def test_outputs_resolve_under_mocks(mocks: Mocks) -> pulumi.Output[None]:
    """A user's test can assert on what the program makes of the machine."""
    machine = ComputeInstance("m", instance_type=EIGHT, ssh_key=ED25519)

    def check(known: list[Any]) -> None:
        assert known == ["m-id", "192.0.2.1", "sector_3"]

    return pulumi.Output.all(machine.id, machine.ip, machine.sector).apply(check)


READ = [
    ({}, "sector_3"),
    ({"status": "pending"}, "sector_3"),
    ({"sector": None}, None),
    ({"sector": None, "status": "pending", "instance_type": ONE}, None),
    ({"sector": None, "status": "pending"}, "unknown"),
    ({"sector": None, "status": "pending", "instance_type": "gpu_8x_b200"}, "unknown"),
]
"""How a machine that is read may differ from one that is ready, and its sector."""


@pytest.mark.parametrize("shown, sector", READ)
def test_sector_of_a_read_machine(mocks: Mocks, shown: dict[str, Any], sector: str | None) -> None:
    """Until the API shows it, it is unknown, and what it is passed on to is not created."""
    mocks.read |= shown

    @pulumi_test
    def read() -> pulumi.Output[None]:
        there = ComputeInstance.get("there", "an-id")

        async def check(_: object) -> None:
            assert await there.sector.is_known() is (sector != "unknown")
            assert await there.sector.future() == (None if sector == "unknown" else sector)

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
    if sector == "unknown":
        with pytest.raises(Exception, match="whose sector the API does not show yet"):
            follow()
    else:
        follow()
    assert [name in mocks.asked for name in ("box", "train-0")] == [sector != "unknown"] * 2


@pulumi_test
def test_the_type_token_is_the_one_that_state_holds(
    mocks: Mocks,
) -> pulumi.Output[None]:
    """Another token would make every existing stack replace all its machines."""
    machine = ComputeInstance("m", instance_type=EIGHT, ssh_key=ED25519)

    def check(_: str) -> None:
        assert mocks.asked["m"].typ == TYPE_TOKEN == "pulumi-python:dynamic/fal:ComputeInstance"

    return machine.urn.apply(check)


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
    """The same resource, declared with the SDK's own constructor."""


@pulumi_test
def test_the_engine_is_asked_what_the_sdks_own_constructor_asks(
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
def test_the_source_position_is_the_line_that_declares_the_machine(
    monitor: Monitor,
) -> pulumi.Output[None]:
    """State has it, and a line of this package would say nothing."""
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    machine = ComputeInstance("box", instance_type=ONE, ssh_key=ED25519)

    def check(_: object) -> None:
        position = monitor.requests["box"].sourcePosition
        assert (position.uri, position.line) == (Path(__file__).as_uri(), line)

    return machine.urn.apply(check)


@pulumi_test
def test_the_provider_is_told_the_urns_that_a_resource_may_have_had(
    mocks: Mocks,
) -> pulumi.Output[None]:
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
    stack = f"urn:pulumi:dev::project::{{}}{TYPE_TOKEN}::{{}}"

    def check(_: object) -> None:
        told = {name: asked.inputs.get("__aliases") for name, asked in mocks.asked.items()}
        assert {name: told[name] for name in ("plain", "renamed", "moved", "below")} == {
            "plain": None,
            "renamed": [stack.format("", "old")],
            "moved": [stack.format("", "old")],
            "below": [stack.format("my:index:Parent$", "below")],
        }

    return pulumi.Output.all(*(machine.urn for machine in machines)).apply(check)


@pulumi_test
def test_a_private_key_never_reaches_the_engine(mocks: Mocks) -> pulumi.Output[None]:
    """A private key is refused in the program, before the engine could log it."""
    private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA"
    with pytest.raises(pulumi.RunError, match="is a PRIVATE key"):
        ComputeInstance("m", instance_type=EIGHT, ssh_key=private)
    assert mocks.asked == {}
    return pulumi.Output.from_input(None)


BY_NAME = "ComputeInstance m: pass the inputs by name, such as instance_type=..."


@pytest.mark.parametrize(
    "positional, named, says",
    [
        ([ONE], {}, BY_NAME),
        ([ONE, ED25519], {}, BY_NAME),
        ([None, None, None], {}, BY_NAME),
        ([], {"wait_for_capicity": "6h"}, "wait_for_capicity (did you mean wait_for_capacity?)"),
        ([ComputeInstanceArgs(instance_type="a", ssh_key="b")], {"ssh_key": "c"}, "ssh_key"),
    ],
)
def test_an_argument_that_is_not_known_is_refused(
    positional: list[Any], named: dict[str, Any], says: str
) -> None:
    """A misspelt argument is refused without a traceback, and makes no machine with a default."""
    with pytest.raises(pulumi.RunError, match=re.escape(says)):
        ComputeInstance("m", *positional, **named)


@pytest.mark.parametrize(
    "timeouts, is_fine",
    [
        (pulumi.CustomTimeouts(create="90m", delete="1h30m"), True),
        (pulumi.CustomTimeouts(create="1.5h"), True),
        (pulumi.CustomTimeouts(create="90 minutes"), False),
        (pulumi.CustomTimeouts(delete="90"), False),
        ("90 minutes", False),
    ],
)
def test_a_timeout_that_the_engine_could_not_read(
    mocks: Mocks, timeouts: Any, is_fine: bool
) -> None:
    """The engine would not say of which resource."""
    refused = pytest.raises(pulumi.RunError, match="ComputeInstance m: custom_timeouts")
    with nullcontext() if is_fine else refused:
        opts = pulumi.ResourceOptions(custom_timeouts=timeouts)
        ComputeInstance("m", opts, instance_type=ONE, ssh_key=ED25519)


@pytest.mark.parametrize("opts", [None, pulumi.ResourceOptions(import_="id")])
@pulumi_test
def test_the_provider_in_state_is_the_same_on_each_python(
    mocks: Mocks, monkeypatch: pytest.MonkeyPatch, opts: pulumi.ResourceOptions | None
) -> pulumi.Output[None]:
    """Pickle's default protocol is 5 from Python 3.14 on. A machine would show an update then."""
    monkeypatch.setattr(pickle, "DEFAULT_PROTOCOL", 5)
    machine = ComputeInstance("machine", opts, instance_type=ONE, ssh_key=ED25519)

    def check(_: object) -> None:
        providers = {asked.inputs["__provider"] for asked in mocks.all}
        assert providers == {PROVIDER}

    return machine.urn.apply(check)
