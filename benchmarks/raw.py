"""The native plugin's resource, as a program without a generated SDK declares it."""

from __future__ import annotations

import pulumi


class Machine(pulumi.CustomResource):
    """A machine, by its type token and the schema's names."""

    def __init__(self, name: str, instance_type: str, ssh_key: str) -> None:
        props = {"instanceType": instance_type, "sshKey": ssh_key, "ip": None, "status": None}
        super().__init__("fal:index:ComputeInstance", name, props)
