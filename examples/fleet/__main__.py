"""As many machines as the config says."""

import pulumi

from pulumi_fal import ComputeInstance

config = pulumi.Config()
machines = {
    f"node-{number}": ComputeInstance(
        f"node-{number}",
        instance_type=config.require("instanceType"),
        ssh_key=config.require("sshPublicKey"),
    )
    for number in range(config.require_int("size"))
}

pulumi.export("ips", {name: machine.ip for name, machine in machines.items()})
