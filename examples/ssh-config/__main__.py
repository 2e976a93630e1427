"""An ssh config and an Ansible inventory as stack outputs."""

from collections.abc import Mapping

import pulumi

from pulumi_fal import ComputeInstance


def ssh_config(ips: Mapping[str, str]) -> str:
    # Later machines may reuse an address, so the host keys are kept in a separate file.
    return "\n".join(
        f"Host {name}\n"
        f"  HostName {ip}\n"
        "  User ubuntu\n"
        "  UserKnownHostsFile ~/.ssh/known_hosts.fal\n"
        "  StrictHostKeyChecking accept-new\n"
        for name, ip in ips.items()
    )


def inventory(ips: Mapping[str, str]) -> str:
    hosts = [f"{name} ansible_host={ip} ansible_user=ubuntu" for name, ip in ips.items()]
    return "\n".join(["[fal]", *hosts])


config = pulumi.Config()
machines = {
    f"node-{number}": ComputeInstance(
        f"node-{number}",
        instance_type="gpu_1x_h100_sxm5",
        ssh_key=config.require("sshPublicKey"),
    )
    for number in range(config.require_int("size"))
}
ips = pulumi.Output.all(**{name: machine.ip for name, machine in machines.items()})

pulumi.export("sshConfig", ips.apply(ssh_config))
pulumi.export("inventory", ips.apply(inventory))
