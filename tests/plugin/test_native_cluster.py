"""The component ComputeCluster of the native plugin: what it registers for a request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2

from pulumi_fal.tokens import CLUSTER_TYPE_TOKEN, NATIVE_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import ED25519, EIGHT, ONE
from .monitor import STACK, Monitor, served
from .native import PROVIDER_URN, Provider, engine, failure, plain, secret

INPUTS = {"size": 3, "sshKey": ED25519}
NAMES = ["train-0", "train-1", "train-2"]


@pytest.fixture
def logged(provider: Provider) -> Iterator[list[Any]]:
    """What the provider has logged to an engine."""
    with engine() as (address, logged):
        provider.attach(address)
        yield logged


@pytest.fixture
def monitor(logged: list[Any]) -> Iterator[Monitor]:
    with served() as monitor:
        yield monitor


def refusal(provider: Provider, monitor: Monitor, **inputs: Any) -> str:
    """The error of a component that is refused before it has registered a machine."""
    error = failure(lambda: provider.construct({**INPUTS, **inputs}, monitor))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert monitor.machines() == {}
    return str(error.details())


def test_a_cluster_registers_itself_and_its_machines(provider: Provider, monitor: Monitor) -> None:
    """The machines are its children, of the plugin's own type, all in the requested sector."""
    given = {**INPUTS, "sector": "sector_2", "wait": False, "instanceType": "gpu_8x_b200"}
    provider.construct(given, monitor, parent=STACK)
    component = monitor.registered.pop("train")
    assert (component.type, component.parent) == (CLUSTER_TYPE_TOKEN, STACK)
    assert not component.custom
    assert plain(component.object) == {}
    assert list(monitor.machines()) == NAMES
    for name, inputs in monitor.machines().items():
        assert inputs == {name: given[name] for name in given if name != "size"}
        assert monitor.registered[name].type == NATIVE_TYPE_TOKEN
        assert monitor.registered[name].parent == Monitor.urn("train")


def test_without_a_sector_the_others_follow_the_first(provider: Provider, monitor: Monitor) -> None:
    """What happens to the first machine later must not replace the others."""
    provider.construct({**INPUTS, "wait": False}, monitor)
    first, *others = monitor.machines().values()
    assert (first["instanceType"], "sector" in first, "wait" in first) == (EIGHT, False, False)
    assert [(other["sector"], other["wait"]) for other in others] == [("sector_3", False)] * 2
    ignored = [list(monitor.registered[name].ignoreChanges) for name in NAMES]
    assert ignored == [[], ["sector"], ["sector"]]
    assert list(monitor.registered["train-1"].propertyDependencies["sector"].urns) == []


def test_the_outputs_are_those_of_the_python_component(
    provider: Provider, monitor: Monitor
) -> None:
    """The program and state get the same, under the schema's names."""
    answer = provider.construct({**INPUTS, "size": 2}, monitor)
    assert answer.urn == Monitor.urn("train")
    outputs = plain(answer.state)
    assert outputs == monitor.outputs
    machines = [machine["urn"] for machine in outputs.pop("machines")]
    assert machines == [Monitor.urn("train-0"), Monitor.urn("train-1")]
    assert outputs.pop("sshConfig").startswith("Host train-0\n  HostName 198.18.0.0\n")
    assert outputs.pop("inventory").startswith("[train]\ntrain-0 ansible_host=198.18.0.0\n")
    torchrun = "--nnodes=2 --nproc-per-node=8 --node-rank=%d --rdzv-endpoint=198.18.0.0:29500"
    assert outputs == {
        "ips": ["198.18.0.0", "198.18.0.1"],
        "mainIp": "198.18.0.0",
        "sector": "sector_3",
        "hostfile": "198.18.0.0 slots=8\n198.18.0.1 slots=8\n",
        "torchrun": [torchrun % 0, torchrun % 1],
    }


def test_in_a_preview_the_outputs_are_unknown(provider: Provider, monitor: Monitor) -> None:
    """Inputs that come from a resource that doesn't exist yet are unknown, too."""
    monitor.preview = True
    unknown = {"sshKey": rpc.UNKNOWN, "sector": rpc.UNKNOWN}
    answer = provider.construct({**INPUTS, **unknown}, monitor)
    outputs = plain(answer.state)
    assert list(monitor.machines()) == NAMES
    assert {inputs["sshKey"] for inputs in monitor.machines().values()} == {rpc.UNKNOWN}
    assert (outputs["mainIp"], outputs["hostfile"]) == (rpc.UNKNOWN, rpc.UNKNOWN)


def test_a_secret_reaches_the_machines_as_a_secret(provider: Provider, monitor: Monitor) -> None:
    """The outputs without it are none, so that a program can print them."""
    answer = provider.construct({**INPUTS, "sshKey": secret(ED25519)}, monitor)
    keys = [inputs["sshKey"] for inputs in monitor.machines().values()]
    assert keys == [secret(ED25519)] * 3
    assert ED25519 not in str(monitor.outputs)
    assert plain(answer.state)["mainIp"] == "198.18.0.0"


def test_options_of_the_component_reach_its_machines(provider: Provider, monitor: Monitor) -> None:
    """A stack of the Python package continues, because its type is an alias of each machine."""
    other = "urn:pulumi:dev::proj::a:b:C::other"
    timeouts = provider_pb2.ConstructRequest.CustomTimeouts(create="2h")
    hooks = provider_pb2.ConstructRequest.ResourceHooksBinding(after_create=["tell"])
    given: dict[str, Any] = {
        "customTimeouts": timeouts,
        "deleteBeforeReplace": True,
        "dependencies": [other],
        "retainOnDelete": True,
        "protect": True,
        "resource_hooks": hooks,
        "providers": {"fal": "urn:pulumi:dev::proj::pulumi:providers:fal::theirs::an-id"},
    }
    provider.construct(INPUTS, monitor, **given)
    for name in NAMES:
        machine = monitor.registered[name]
        assert (machine.customTimeouts.create, machine.customTimeouts.update) == ("2h", "")
        assert machine.deleteBeforeReplaceDefined
        assert machine.deleteBeforeReplace
        assert list(machine.dependencies) == [other]
        assert machine.retainOnDelete
        assert list(machine.hooks.after_create) == ["tell"]
        assert machine.protect
        assert machine.provider == given["providers"]["fal"]
        assert [alias.spec.type for alias in machine.aliases] == [TYPE_TOKEN]


def test_the_machines_have_the_provider_of_the_component(
    provider: Provider, monitor: Monitor
) -> None:
    """An SDK asks for a version. Without one, there would be another default provider."""
    urn = f"{PROVIDER_URN}default_0_1_0"
    named = provider_pb2.ConfigureRequest(name="default_0_1_0", urn=urn, id="an-id")
    provider.stub.Configure(named)
    provider.construct(INPUTS, monitor)
    providers = {monitor.registered[name].provider for name in NAMES}
    assert providers == {f"{urn}::an-id"}


def test_options_that_are_not_set_are_not_set_for_the_machines(
    provider: Provider, monitor: Monitor
) -> None:
    """Each has a default of its own, which a value of the component would replace."""
    provider.construct(INPUTS, monitor)
    machine = monitor.registered["train-0"]
    assert not machine.HasField("customTimeouts")
    assert not machine.deleteBeforeReplaceDefined


@pytest.mark.parametrize(
    "size, said",
    [
        (0, "size must be a whole number of 1 or more, not 0."),
        (-1, "size must be a whole number of 1 or more, not -1."),
        (2.5, "size must be a whole number of 1 or more, not 2.5."),
        ("2", "size must be a whole number of 1 or more, not '2'."),
        (True, "size must be a whole number of 1 or more, not true."),
        (1e300, "size must be 1000 or less."),
        (rpc.UNKNOWN, "size can't be an Output, because a preview has to know"),
        (secret(2), "size can't be an Output, because a preview has to know"),
        (secret(rpc.UNKNOWN), "size can't be an Output, because a preview has to know"),
    ],
)
def test_a_size_that_is_no_number_of_machines_is_refused(
    provider: Provider, monitor: Monitor, size: Any, said: str
) -> None:
    """The message is that of Python, and has no value that is a secret."""
    assert refusal(provider, monitor, size=size).startswith(said)


def test_a_size_that_depends_on_a_resource_is_refused(provider: Provider, monitor: Monitor) -> None:
    """The engine may know it now, but a preview of a new stack would not."""
    depends = provider_pb2.ConstructRequest.PropertyDependencies(urns=[Monitor.urn("other")])
    error = failure(
        lambda: provider.construct(INPUTS, monitor, inputDependencies={"size": depends})
    )
    assert error.details().startswith("size can't be an Output")


def test_other_refusals_have_the_schemas_names(provider: Provider, monitor: Monitor) -> None:
    """The program may be in any language."""
    said = refusal(provider, monitor, instanceType=ONE)
    assert said.startswith(f"instanceType {ONE} has no InfiniBand")
    error = failure(lambda: provider.construct(INPUTS, monitor, type="fal:index:Network"))
    assert error.details() == "There is no component fal:index:Network."


def test_machines_in_different_sectors_are_a_warning(
    provider: Provider, monitor: Monitor, logged: list[Any]
) -> None:
    """It is shown on the component's row."""
    monitor.sectors = {"train-1": "sector_1"}
    provider.construct(INPUTS, monitor)
    (warning,) = (entry for entry in logged if "in different sectors" in entry.message)
    assert "(sector_1, sector_3)" in warning.message
    assert warning.urn == Monitor.urn("train")


def test_all_machines_of_all_clusters_are_registered_at_once(
    provider: Provider, monitor: Monitor
) -> None:
    """No machine waits for another one to be ready, and no cluster has the settings of another."""
    monitor.together = threading.Barrier(120)
    with futures.ThreadPoolExecutor() as threads, served() as another:
        another.together = monitor.together
        given = {**INPUTS, "size": 60, "sector": "sector_1"}
        for answer in threads.map(lambda of: provider.construct(given, of), (monitor, another)):
            assert len(plain(answer.state)["ips"]) == 60
        assert len(monitor.machines()) == len(another.machines()) == 60


def test_the_size_that_earlier_versions_passed_on_is_no_input(provider: Provider) -> None:
    """Check has always removed it, so no state has it. If one does, nothing is changed."""
    news = {"instanceType": EIGHT, "sshKey": ED25519, "sector": "sector_1"}
    earlier = {**news, "__clusterSize": 4}
    assert plain(provider.check(earlier, earlier).inputs) == news
    diff = provider.diff("an id", earlier, earlier, news)
    assert diff.changes == provider_pb2.DiffResponse.DIFF_NONE
