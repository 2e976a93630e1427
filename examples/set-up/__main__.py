"""Machines that are set up by a script as soon as they can be logged in to."""

from pathlib import Path

import pulumi
from set_up import SetUp

from pulumi_fal import ComputeCluster, ComputeInstance

config = pulumi.Config()
ssh_key = config.require("sshPublicKey")
cluster_size = config.get_int("clusterSize")
script = Path(__file__).with_name("set-up.sh").read_text(encoding="utf-8")

if cluster_size is None:
    machine = ComputeInstance(
        "machine",
        instance_type="gpu_1x_h100_sxm5",
        ssh_key=ssh_key,
        wait_for_ssh=True,
    )
    machines = [machine]
else:
    machines = ComputeCluster(
        "node", size=cluster_size, ssh_key=ssh_key, wait_for_ssh=True
    ).machines

set_ups = [SetUp(machine, script) for machine in machines]
pulumi.export("ips", [machine.ip for machine in machines])
pulumi.export("printed", [set_up.output for set_up in set_ups])
