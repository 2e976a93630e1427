"""A machine that exists already, taken into a stack as it is."""

import pulumi

from pulumi_fal import ComputeInstance

config = pulumi.Config()
machine = ComputeInstance(
    "machine",
    instance_type="gpu_1x_h100_sxm5",
    # The key that the machine was made with: the API doesn't tell it.
    ssh_key=config.require("sshPublicKey"),
    opts=pulumi.ResourceOptions(
        import_=config.require("machineId"),  # has done its work once `pulumi up` is through
        protect=True,  # a machine in use is not to go by mistake
    ),
)

pulumi.export("ssh", machine.ip.apply(lambda ip: f"ssh ubuntu@{ip}"))
