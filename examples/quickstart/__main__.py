"""One NVIDIA H100 machine on fal Compute.

Stack config, all optional:
    instanceType   gpu_1x_h100_sxm5 (the default) or gpu_8x_h100_sxm5
    sshPublicKey   the key that may log in; by default the one in ~/.ssh
    sector         sector_1, sector_2 or sector_3, for InfiniBand between 8x machines
"""

from pathlib import Path

import pulumi

from pulumi_fal import ComputeInstance


def own_public_key() -> str:
    for name in ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub"):
        path = Path.home() / ".ssh" / name
        if path.is_file():
            return path.read_text(encoding="utf-8").strip()
    raise pulumi.RunError(
        "No SSH public key was found in ~/.ssh. Make one with `ssh-keygen -t ed25519`, or name "
        'another with `pulumi config set sshPublicKey "$(cat PATH.pub)"`.'
    )


config = pulumi.Config()
machine = ComputeInstance(
    "machine",
    instance_type=config.get("instanceType") or "gpu_1x_h100_sxm5",
    ssh_key=config.get("sshPublicKey") or own_public_key(),
    sector=config.get("sector"),
)

pulumi.export("id", machine.id)
pulumi.export("ip", machine.ip)
pulumi.export("status", machine.status)
pulumi.export("ssh", machine.ip.apply(lambda ip: f"ssh ubuntu@{ip}"))
