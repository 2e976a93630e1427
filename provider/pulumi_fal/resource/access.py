"""Files and arguments by which ssh, MPI, DeepSpeed, torchrun and Ansible reach machines.

All functions are pure. They raise ValueError for an ip that is not an IP address, so that only an
address gets into a file that a tool acts on.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence

USER = "ubuntu"
"""The user who may log in with the machine's ssh_key."""
PORT = 29500
"""The port on which the first machine waits for the others: torchrun's own default."""


def hostfile(ips: Iterable[str], gpus: int) -> str:
    """Return the host file of Open MPI (`mpirun --hostfile`) and DeepSpeed, one line a machine.

    `gpus` is the number of GPUs of each machine.
    """
    return "".join(f"{_address(ip)} slots={gpus}\n" for ip in ips)


def torchrun(ips: Sequence[str], node: int, gpus: int) -> str:
    """Return the arguments of `torchrun` on machine number `node`, counted from 0.

    `gpus` is the number of GPUs of each machine. The first is the rendezvous endpoint of all.
    """
    if not 0 <= node < len(ips):
        raise IndexError(f"there is no machine number {node} among {len(ips)}")
    main = _address(ips[0])
    endpoint = f"[{main}]" if ":" in main else main
    return (
        f"--nnodes={len(ips)} --nproc-per-node={gpus} --node-rank={node} "
        f"--rdzv-endpoint={endpoint}:{PORT}"
    )


def ssh_config(ips: Mapping[str, str], ids: Mapping[str, str]) -> str:
    """Return a config file for `ssh -F FILE NAME`, for the ips and ids of machines by name.

    Other machines may get the same address later, so the host keys are kept by id, in a file of
    their own.
    """
    return "\n".join(
        f"Host {alias(name)}\n"
        f"  HostName {_address(ip)}\n"
        f"  User {USER}\n"
        f"  HostKeyAlias {alias(ids[name])}\n"
        "  UserKnownHostsFile ~/.ssh/known_hosts.fal\n"
        "  StrictHostKeyChecking accept-new\n"
        for name, ip in ips.items()
    )


def inventory(group: str, ips: Mapping[str, str]) -> str:
    """Return an Ansible inventory in INI format, with all machines in one group.

    Ansible allows only letters, digits and underscores in the name of a group, so others become
    underscores.
    """
    hosts = [f"{alias(name)} ansible_host={_address(ip)}" for name, ip in ips.items()]
    name = re.sub(r"^(?=\d)|[^A-Za-z0-9_]", "_", group)
    return "\n".join([f"[{name}]", *hosts, "", f"[{name}:vars]", f"ansible_user={USER}", ""])


def alias(name: str) -> str:
    """Return the name without characters that mean something in these files."""
    return re.sub(r"^-+|[^A-Za-z0-9._-]", "_", name)


def _address(ip: str) -> str:
    address = ipaddress.ip_address(ip)
    if getattr(address, "scope_id", None) is not None:  # it may be any text
        raise ValueError(f"{ip!r} does not appear to be an address without a scope")
    return str(address)
