"""Files and arguments by which ssh, MPI, torchrun, Ansible and schedulers reach machines.

All functions are pure. They raise ValueError for an ip that is not an IP address, so that only an
address gets into a file that a tool acts on.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence

USER = "ubuntu"
"""The user who may log in with the machine's ssh_key."""
PORT = 29500
"""The port on which the first machine waits for the others: torchrun's own default."""
IDENTITY = "~/.ssh/id_ed25519"
"""The file with the private key of most users. A scheduler logs in with a key that is named."""


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


def skypilot(pool: str, ips: Iterable[str], identity: str = IDENTITY) -> str:
    """Return a file of SkyPilot's SSH node pools, with all machines in one pool.

    `identity` is the file with the private key.
    """
    return f"{_label(pool)}:\n{_log_in(ips, identity)}"


def dstack(
    fleet: str, ips: Iterable[str], sectors: Iterable[str | None], identity: str = IDENTITY
) -> str:
    """Return dstack's configuration of an SSH fleet of all machines.

    `identity` is the file with the private key. Only machines in one sector are a cluster, on which
    dstack runs tasks with several nodes.
    """
    in_common = set(sectors)
    placement = "cluster" if len(in_common) == 1 and None not in in_common else "any"
    return (
        f"type: fleet\nname: {_label(fleet)}\nplacement: {placement}\n"
        f"ssh_config:\n{_log_in(ips, identity)}"
    )


def _label(name: str) -> str:
    """Return the name in YAML, with only what dstack allows in one."""
    allowed = re.sub(r"[^a-z0-9-]", "-", name.lower())
    return json.dumps(re.sub(r"^(?![a-z].)", "fal-", allowed)[:41])


def _log_in(ips: Iterable[str], identity: str) -> str:
    """Return the lines of YAML that SkyPilot and dstack have in common."""
    hosts = "".join(f"    - {json.dumps(_address(ip))}\n" for ip in ips)
    return f"  user: {USER}\n  identity_file: {json.dumps(identity)}\n  hosts:\n{hosts}"


def alias(name: str) -> str:
    """Return the name without characters that mean something in these files."""
    return re.sub(r"^-+|[^A-Za-z0-9._-]", "_", name)


def _address(ip: str) -> str:
    address = ipaddress.ip_address(ip)
    if getattr(address, "scope_id", None) is not None:  # it may be any text
        raise ValueError(f"{ip!r} does not appear to be an address without a scope")
    return str(address)
