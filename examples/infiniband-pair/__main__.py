"""Two machines with eight H100 each, and InfiniBand between them: both are in one sector."""

import pulumi

from pulumi_fal import ComputeInstance, InstanceType

config = pulumi.Config()
pair = [
    ComputeInstance(
        name,
        instance_type=InstanceType.GPU_8X_H100_SXM5,
        # Named for both. With `sector=left.sector` the right one would have to wait for the left
        # one, and a replacement of the left one would always replace the right one too.
        sector=config.require("sector"),
        ssh_key=config.require("sshPublicKey"),
    )
    for name in ("left", "right")
]

pulumi.export("sector", config.require("sector"))
pulumi.export("ips", [machine.ip for machine in pair])
