"""A stack with one machine, to be tested."""

import pulumi

from pulumi_fal import ComputeInstance

machine = ComputeInstance(
    "machine",
    instance_type="gpu_1x_h100_sxm5",
    ssh_key=pulumi.Config().require("sshPublicKey"),
)

pulumi.export("ip", machine.ip)
