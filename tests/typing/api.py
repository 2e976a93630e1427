"""The public surface, as a program uses it. mypy checks this file; nothing runs it.

A name that goes, an argument that is renamed or a type that narrows is an error here first.
"""

from __future__ import annotations

import pulumi

from pulumi_fal import (
    ComputeCluster,
    ComputeClusterArgs,
    ComputeInstance,
    ComputeInstanceArgs,
    Instance,
    InstanceType,
    Sector,
    Status,
    __version__,
    get_instance,
    get_instance_output,
    get_instances,
    get_instances_output,
)

version: str = __version__
key: pulumi.Output[str] = pulumi.Config().require_secret("sshPublicKey")

# The two forms, plain strings and enums, values and Outputs.
plain = ComputeInstance("plain", instance_type="gpu_1x_h100_sxm5", ssh_key="ssh-ed25519 AAAA")
named = ComputeInstance(
    "named",
    pulumi.ResourceOptions(protect=True),
    instance_type=InstanceType.GPU_8X_H100_SXM5,
    ssh_key=key,
    sector=Sector.SECTOR_1,
    wait=False,
    wait_for_capacity="6h",
    max_age="12h",
)
typed = ComputeInstance(
    "typed",
    ComputeInstanceArgs(
        instance_type=InstanceType.GPU_8X_H100_SXM5,
        ssh_key=key,
        sector=pulumi.Config().get("sector"),
        wait=pulumi.Output.from_input(True),
        wait_for_ssh=True,
    ),
    pulumi.ResourceOptions(delete_before_replace=True),
)
followed = ComputeInstance(
    "followed", instance_type=typed.instance_type, ssh_key=typed.ssh_key, sector=typed.sector
)
read: ComputeInstance = ComputeInstance.get("read", "id", pulumi.ResourceOptions(parent=typed))

cluster = ComputeCluster(
    "cluster", pulumi.ResourceOptions(protect=True), size=4, ssh_key=key, sector=Sector.SECTOR_2
)
same = ComputeCluster(
    "same",
    ComputeClusterArgs(size=1, ssh_key=key, sector=pulumi.Config().get("sector"), wait=False),
)
nodes: list[ComputeInstance] = cluster.machines
addresses: pulumi.Output[list[str | None]] = cluster.ips
hostfile: pulumi.Output[str | None] = cluster.hostfile
torchrun: pulumi.Output[list[str] | None] = cluster.torchrun

# Outputs.
ip: pulumi.Output[str] = typed.ip
status: pulumi.Output[str] = typed.status
sector: pulumi.Output[str | None] = typed.sector
region: pulumi.Output[str | None] = typed.region
instance_type: pulumi.Output[str] = typed.instance_type
ssh_key: pulumi.Output[str] = typed.ssh_key
login: pulumi.Output[str] = typed.ip.apply(lambda known: f"ssh ubuntu@{known}")

# Functions.
one: Instance = get_instance("id")
address: str | None = one.ip
ready: bool = one.is_ready and one.status == Status.READY
some: list[Instance] = get_instances(
    instance_type=InstanceType.GPU_1X_H100_SXM5,
    sector="sector_2",
    status=Status.READY,
    region="us-west",
)
later: pulumi.Output[Instance] = get_instance_output(typed.id)
many: pulumi.Output[list[Instance]] = get_instances_output(sector=typed.sector, region=typed.region)

# What must not pass. warn_unused_ignores makes each an error once it does.
ComputeInstance("no key", instance_type="gpu_1x_h100_sxm5")  # type: ignore[call-overload]
ComputeInstance("no type", ssh_key=key)  # type: ignore[call-overload]
ComputeCluster("no size", ssh_key=key)  # type: ignore[call-overload]
ComputeCluster("output", size=pulumi.Output.from_input(4), ssh_key=key)  # type: ignore[call-overload]
ComputeInstance("unknown", instance_type="a", ssh_key=key, region="eu")  # type: ignore[call-overload]
ComputeInstanceArgs(instance_type=1, ssh_key=key)  # type: ignore[arg-type]
get_instances("gpu_1x_h100_sxm5")  # type: ignore[call-arg]
