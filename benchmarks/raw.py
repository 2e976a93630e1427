"""The native plugin's resources, as a program without a generated SDK declares them."""

from __future__ import annotations

import pulumi


class Machine(pulumi.CustomResource):
    """A machine, by its type token and the schema's names."""

    def __init__(self, name: str, instance_type: str, ssh_key: str) -> None:
        props = {"instanceType": instance_type, "sshKey": ssh_key, "ip": None, "status": None}
        super().__init__("fal:index:ComputeInstance", name, props)


class ComputeCluster(pulumi.ComponentResource):
    """A cluster, which the plugin constructs."""

    def __init__(self, name: str, size: int, ssh_key: str, sector: str) -> None:
        props = {"size": size, "sshKey": ssh_key, "sector": sector, "ips": None}
        super().__init__("fal:index:ComputeCluster", name, props, remote=True)
