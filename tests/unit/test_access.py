"""The files by which other tools reach machines, in the formats that their documentation gives."""

from __future__ import annotations

import configparser

import pytest

from pulumi_fal.resource import access

IPS = ["198.18.0.1", "198.18.0.2"]
BY_NAME = {"train-0": IPS[0], "train-1": IPS[1]}


def test_the_host_file_has_a_line_for_each_machine_with_a_slot_for_each_gpu() -> None:
    """Open MPI and DeepSpeed both read this format."""
    assert access.hostfile(IPS, 8) == "198.18.0.1 slots=8\n198.18.0.2 slots=8\n"


def test_torchrun_gets_the_same_rendezvous_and_another_rank_on_each_machine() -> None:
    """The first machine is the endpoint, so all ranks find each other there."""
    common = "--nnodes=2 --nproc-per-node=8 --node-rank={} --rdzv-endpoint=198.18.0.1:29500"
    assert [access.torchrun(IPS, node, 8) for node in range(2)] == [
        common.format(0),
        common.format(1),
    ]
    assert "--rdzv-endpoint=[2001:db8::1]:29500" in access.torchrun(["2001:db8::1"], 0, 8)


@pytest.mark.parametrize("node", [-1, 2])
def test_torchrun_refuses_a_machine_that_does_not_exist(node: int) -> None:
    """A negative number must not count from the end."""
    with pytest.raises(IndexError, match=f"no machine number {node} among 2"):
        access.torchrun(IPS, node, 8)


def test_the_ssh_config_has_a_host_for_each_name() -> None:
    """Host keys are kept apart from the user's, because addresses are used again."""
    blocks = access.ssh_config(BY_NAME).split("\n\n")
    assert [block.splitlines()[:3] for block in blocks] == [
        ["Host train-0", "  HostName 198.18.0.1", "  User ubuntu"],
        ["Host train-1", "  HostName 198.18.0.2", "  User ubuntu"],
    ]
    assert all("UserKnownHostsFile ~/.ssh/known_hosts.fal" in block for block in blocks)


def test_the_inventory_has_one_group_of_all_machines() -> None:
    """Ansible refuses a group whose name is not an identifier."""
    parser = configparser.ConfigParser(allow_no_value=True, delimiters=("=",))
    parser.read_string(access.inventory("8-train", BY_NAME).replace(" ansible_host=", "="))
    assert dict(parser["_8_train"]) == BY_NAME
    assert dict(parser["_8_train:vars"]) == {"ansible_user": "ubuntu"}


@pytest.mark.parametrize("name", ["a b", "a\nProxyCommand x", "*", "!a", "[0:9]", "-o", "a#b"])
def test_a_name_never_gets_a_meaning_in_a_file(name: str) -> None:
    """A name with a line break, a pattern or a space would say something else to the tool."""
    alias = access.alias(name)
    assert set(alias) <= set("abProxyCmndox_09-.")
    assert not alias.startswith("-")
    assert access.ssh_config({name: IPS[0]}).splitlines()[0] == f"Host {alias}"
    assert f"\n{alias} ansible_host=" in access.inventory(name, {name: IPS[0]})


@pytest.mark.parametrize(
    "ip", ["", "a", "198.18.0.1\n  ProxyCommand x", "198.18.0.1 -x", "fe80::1%x\n  ProxyCommand x"]
)
def test_only_an_address_gets_into_a_file(ip: str) -> None:
    """A damaged state must not become an option of ssh."""
    error = "does not appear to be"
    with pytest.raises(ValueError, match=error):
        access.hostfile([ip], 8)
    with pytest.raises(ValueError, match=error):
        access.torchrun([ip], 0, 8)
    with pytest.raises(ValueError, match=error):
        access.ssh_config({"a": ip})
    with pytest.raises(ValueError, match=error):
        access.inventory("a", {"a": ip})
