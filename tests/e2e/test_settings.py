"""What a user sets, keeps secret and gets wrong, and whose account a key is of.

That no file of a stack holds the key (state, backups, logs, what was printed) is also checked
after every other test of this folder: conftest.py.
"""

from __future__ import annotations

import re
from math import inf

import pytest

from pulumi_fal.api.settings import Settings
from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, KEY
from .harness import SSH_KEY, Code, Stack, machine
from .native import in_native, provider
from .recovery import billing, finish, one_machine, says

LOUD = ("-v=9", "--logtostderr", "--logflow")
TIMES = "custom_timeouts=pulumi.CustomTimeouts(create='2s', update='{}s')"


def test_key_and_secrets(stack: Stack, emulator: EmulatorServer) -> None:
    """A key in config is enough. It shows nowhere, and neither do a secret sector and ip.

    An older engine logs config at -v=9, as the docs say; the provider never logs a key.
    """
    state = emulator.state
    secret = "additional_secret_outputs=['ip'], "
    inputs = {"instance_type": EIGHT, "sector": Code("pulumi.Output.secret('sector_1')")}
    stack.run("config", "set", "fal:apiKey", stack.env.pop("FAL_ADMIN_API_KEY"), "--secret")
    stack.env["FAL_COMPUTE_PRICES"] = f"{EIGHT}=360000"
    stack.write(machine(opts=secret + TIMES.format(2), **inputs))
    state.provisioning = inf
    loud = stack.up(*LOUD, fails=True)
    assert_hidden(stack, "sector_1")
    lines = [line for line in loud.output.splitlines() if KEY in line]
    assert [line for line in lines if "Configure().inputs" not in line] == []
    assert stack.files_with(KEY) == ([stack.runs[-1].log.name] if lines else [])
    stack.runs[-1].log.unlink()

    finish(state)
    stack.write(machine(opts=secret + TIMES.format(300), **inputs))
    created = stack.up()
    made = state.machines[one_machine(stack, emulator)]
    assert made.requested.sector == "sector_1"
    destroyed = stack.destroy()
    assert billing(destroyed) == ["Stopped billing 1 machine, 360000.00 an hour"]
    assert re.search(r"machine deleted .* cost [1-9]\d+\.\d\d since Pulumi", destroyed.output)
    assert state.alive() == set()
    for text in ("sector_1", made.ip):
        assert_hidden(stack, text)
    assert made.ip not in created.output + destroyed.output


def assert_hidden(stack: Stack, secret: str) -> None:
    """The text is in no file of the backend, and so not in what `stack export` prints."""
    assert [path for path in stack.files_with(secret) if path.startswith(".pulumi")] == []


@in_native
def test_mistakes(stack: Stack, emulator: EmulatorServer) -> None:
    """A preview names every problem at once. An error has no traceback and no secret value."""
    private = "a private thing"
    stack.write(machine(ssh_key=private, sector="sector_9"))
    refused = stack.preview(fails=True)
    says(refused, "sshKey", "sector")
    assert private not in refused.output
    assert emulator.state.calls.total() == 0


# Accounts

THEIRS = "provider=theirs"


@pytest.mark.chaos("plugin/test_accounts.py::test_other_account")
@pytest.mark.parametrize("api_key", [None], ids=["each key has an account"])
@in_native
def test_two_providers(stack: Stack, emulator: EmulatorServer) -> None:
    """Each provider's process works with its own key, whatever the variables say.

    A machine keeps its account until the user replaces it. No secret is in state.
    """
    keys = {"MINE": "the-key-of-mine", "THEIRS": "the-key-of-theirs"}
    stack.env |= {**keys, "FAL_ADMIN_API_KEY": keys["MINE"]}
    theirs = provider("theirs", apiKey=Code("os.environ['THEIRS']"))
    secret = Code(f"Output.secret({SSH_KEY!r})")
    here, there, moved = (
        machine(name, opts=opts, ssh_key=secret)
        for name, opts in (("here", ""), ("there", THEIRS), ("here", THEIRS))
    )
    group = f"ComputeCluster('group', size=1, ssh_key={secret}, opts=ResourceOptions({{}}))\n"
    stack.write(theirs, here, there, group.format(THEIRS))
    says(stack.preview("--diff"), "apiKey: [secret]")
    assert "warning" not in stack.up().output
    mine, other = (Settings(emulator.url, key, "").account for key in keys.values())
    accounts = {
        row["urn"].rpartition("::")[2]: row["outputs"]["account"] for row in stack.resources()
    }
    assert accounts == {"here": mine, "there": other, "group-0": other}

    stack.write(theirs, moved, there)
    says(stack.up(fails=True), f"pulumi up --replace {stack.urn('here')}")
    assert stack.state_ids() == emulator.state.alive()
    stack.up("--replace", stack.urn("here"))
    assert {row["outputs"]["account"] for row in stack.resources()} == {other}
    stack.destroy()
    assert emulator.state.alive() == set()
    assert all(stack.files_with(key) == [] for key in keys.values())
    blob = ED25519.split()[1]
    assert [path for path in stack.files_with(blob) if path.startswith(".pulumi")] == []
