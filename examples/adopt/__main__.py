"""Import a machine that already exists, without changing it."""

import pulumi

from pulumi_fal import ComputeInstance

config = pulumi.Config()
machine = ComputeInstance(
    "machine",
    instance_type="gpu_1x_h100_sxm5",
    # The key that the machine was created with: the API doesn't return it.
    ssh_key=config.require("sshPublicKey"),
    opts=pulumi.ResourceOptions(
        import_=config.require("machineId"),  # can be removed after the first `pulumi up`
        protect=True,  # so that a machine in use isn't deleted by mistake
    ),
)

pulumi.export("ssh", machine.ip.apply(lambda ip: f"ssh ubuntu@{ip}"))
