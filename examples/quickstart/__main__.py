"""One NVIDIA H100 machine on fal Compute.

Stack config:
    sshPublicKey   the key that may log in
    instanceType   gpu_1x_h100_sxm5 (the default) or gpu_8x_h100_sxm5
    sector         sector_1, sector_2 or sector_3, for InfiniBand between 8x machines
"""

import pulumi

from pulumi_fal import ComputeInstance

config = pulumi.Config()
machine = ComputeInstance(
    "machine",
    instance_type=config.get("instanceType") or "gpu_1x_h100_sxm5",
    ssh_key=config.require("sshPublicKey"),
    sector=config.get("sector"),
)

pulumi.export("id", machine.id)
pulumi.export("ip", machine.ip)
pulumi.export("status", machine.status)
pulumi.export("ssh", machine.ip.apply(lambda ip: f"ssh ubuntu@{ip}"))
