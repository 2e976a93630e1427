"""Two machines with eight H100 each in the same sector, connected with InfiniBand."""

import pulumi

from pulumi_fal import ComputeInstance, InstanceType

config = pulumi.Config()
pair = [
    ComputeInstance(
        name,
        instance_type=InstanceType.GPU_8X_H100_SXM5,
        # Set for both machines. With `sector=left.sector`, the second machine would have to wait
        # for the first, and replacing the first would always replace the second too.
        sector=config.require("sector"),
        ssh_key=config.require("sshPublicKey"),
    )
    for name in ("left", "right")
]

pulumi.export("sector", config.require("sector"))
pulumi.export("ips", [machine.ip for machine in pair])
