"""Machines with eight H100 each on one InfiniBand network."""

import pulumi

from pulumi_fal import ComputeCluster

config = pulumi.Config()
cluster = ComputeCluster(
    "node",
    size=config.require_int("size"),
    ssh_key=config.require("sshPublicKey"),
    wait_for_ssh=True,
)

pulumi.export("sector", cluster.sector)
pulumi.export("hostfile", cluster.hostfile)
pulumi.export("sshConfig", cluster.ssh_config)
pulumi.export("torchrun", cluster.torchrun)
