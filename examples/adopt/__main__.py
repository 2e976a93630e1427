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


def login(ip: str | None) -> str:
    # A machine that is not ready may have no address.
    return f"ssh ubuntu@{ip}" if ip else "no address yet; run `pulumi up --refresh` in a minute"


pulumi.export("ssh", machine.ip.apply(login))
