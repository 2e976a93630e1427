"""A machine's life under the real engine: created once, seen as it is, replaced when it must be."""

from __future__ import annotations

import json
import re
import socket
from copy import copy

from pulumi_fal.emulator.server import EmulatorServer

from ..fakes import ED25519, EIGHT, ONE
from .harness import OTHER_SSH_KEY, SSH_KEY, Stack, machine
from .native import in_both, in_native
from .recovery import billing, entries, says


def offline(env: dict[str, str]) -> dict[str, str]:
    """The environment without a key, and with an endpoint and a proxy where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed_at_once:
        nowhere = f"http://127.0.0.1:{closed_at_once.getsockname()[1]}"
    without_key = {name: value for name, value in env.items() if name != "FAL_ADMIN_API_KEY"}
    return {**without_key, "FAL_COMPUTE_ENDPOINT": nowhere, "HTTPS_PROXY": nowhere}


@in_native
def test_life(stack: Stack, emulator: EmulatorServer) -> None:
    """Previews and an `up` without a change need no key and no network.

    The log has one line for each change of status. A machine that is gone leaves state, and `up`
    creates one in its place.
    """
    state, online = emulator.state, dict(stack.env)
    stack.write(machine(instance_type=EIGHT))
    stack.env = offline(online)
    says(stack.preview(), "2 to create")
    assert state.calls.total() == 0

    stack.env = online
    state.provisioning = 2.0
    stack.env["FAL_COMPUTE_PRICES"] = f"{EIGHT}=20"
    created = stack.up()
    assert billing(created) == ["Started billing 1 machine, 20.00 an hour"]
    lines = re.findall(r"machine creating \(\S+\) (.+)", created.output)
    assert len(lines) == len(set(lines)) <= 5
    assert any(line.startswith("provisioning") for line in lines)
    assert lines[-1] == "ready"
    assert state.calls["list"] > len(lines)
    (made,) = state.list()
    assert made.sector is not None  # the API chose it
    outputs = {"id": made.id, "ip": made.ip, "status": "ready", "sector": made.sector}
    assert stack.outputs()["machine"] == {**outputs, "instance_type": EIGHT}
    assert stack.state_ids() == {made.id}
    assert state.machines[made.id].requested.ssh_key == SSH_KEY

    calls = dict(state.calls)
    stack.env = offline(online)
    stack.up("--expect-no-changes")
    assert state.calls == calls

    stack.env = online
    state.provisioning = 0.1
    state.kill(made.id)
    stack.refresh()
    assert stack.state_ids() == set()
    stack.up()
    assert stack.state_ids() == state.alive()
    assert state.creations == 2
    assert made.id in {entry.instance_id for entry in entries(stack)}  # it may come back


@in_both
def test_commands(stack: Stack, emulator: EmulatorServer) -> None:
    """What people also run: plans, JSON, `state taint`, `--exclude` and `state move`."""
    state, plan = emulator.state, str(stack.folder / "plan.json")
    stack.env["PULUMI_EXPERIMENTAL"] = "true"
    stack.write(machine("one"), machine("two"))
    preview = json.loads(stack.preview("--json", "--save-plan", plan).output)
    assert preview["changeSummary"] == {"create": 3}
    stack.up("--plan", plan)
    old = stack.ids()
    assert set(old.values()) == stack.state_ids() == state.alive()

    stack.run("state", "taint", stack.urn("one"), "--yes")
    stack.write(machine("one"), machine("two", ssh_key=OTHER_SSH_KEY))
    stack.run("update", "--strict", "--yes", "--exclude", stack.urn("two"))  # with its preview
    new = stack.ids()
    assert (new["one"] != old["one"], new["two"]) == (True, old["two"])
    events = [json.loads(line) for line in stack.up("--json").output.splitlines()]
    (summary,) = (event["summaryEvent"] for event in events if "summaryEvent" in event)
    assert summary["resourceChanges"] == {"replace": 1, "same": 2}
    ids = stack.ids()
    assert (ids["one"], ids["two"] != old["two"]) == (new["one"], True)
    assert stack.state_ids() == state.alive() == set(ids.values())

    other = copy(stack)
    other.name = "other"
    other.init()
    stack.run("state", "move", "--source", "dev", "--dest", "other", stack.urn("two"), "--yes")
    stack.write(machine("one"))
    stack.up("--expect-no-changes")
    other.write(machine("two", ssh_key=OTHER_SSH_KEY))
    other.up("--expect-no-changes")
    assert (stack.ids(), other.ids()) == ({"one": ids["one"]}, {"two": ids["two"]})
    other.destroy()
    assert state.alive() == {ids["one"]}
    assert entries(stack) == []


# Each machine's inputs before and after.
REPLACED: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "type_changed": ({"instance_type": ONE}, {"instance_type": EIGHT}),
    "key_changed": ({"ssh_key": SSH_KEY}, {"ssh_key": OTHER_SSH_KEY}),
    "sector_changed": (
        {"instance_type": EIGHT, "sector": "sector_1"},
        {"instance_type": EIGHT, "sector": "sector_2"},
    ),
}
KEPT = {"comment_changed": ({"ssh_key": SSH_KEY}, {"ssh_key": f"  {ED25519} me@desktop\n"})}


def test_replaced(stack: Stack, emulator: EmulatorServer) -> None:
    """A changed type, key or sector replaces a machine once, and nothing else does.

    The new machine is ready before the old one goes, unless the program says the opposite.
    Requesting the sector that the machine is in changes nothing.
    """
    state = emulator.state
    stack.env["FAL_COMPUTE_PRICES"] = f"{ONE}=2.5,{EIGHT}=20"

    def up(ssh_key: str, machines: dict[str, dict[str, str]]) -> dict[str, str]:
        """The ids after an `up` with these machines, and one that is deleted before the new one."""
        old_first = machine("old_first", opts="delete_before_replace=True", ssh_key=ssh_key)
        stack.write(*(machine(name, **inputs) for name, inputs in machines.items()), old_first)
        stack.up()
        assert stack.state_ids() == state.alive()
        return stack.ids()

    before = {name: inputs for name, (inputs, _) in (REPLACED | KEPT).items()}
    after = {name: inputs for name, (_, inputs) in (REPLACED | KEPT).items()}
    old = up(SSH_KEY, {**before, "in_its_sector": {"instance_type": EIGHT}})
    own = str(state.get(old["in_its_sector"]).sector)
    stack.write(*(machine(name, **inputs) for name, inputs in after.items()))
    lost = [f"The replacement of machine {old[name]} deletes everything" for name in REPLACED]
    preview = stack.preview()
    says(preview, *lost)
    assert billing(preview) == [
        "Starts billing 3 machines, 42.50 an hour",
        "Stops billing 3 replaced machines, 25.00 an hour",
    ]
    new = up(OTHER_SSH_KEY, {**after, "in_its_sector": {"instance_type": EIGHT, "sector": own}})
    assert {name for name in old if old[name] != new[name]} == {*REPLACED, "old_first"}
    counts = re.findall(r"(\d+) (replaced|updated|unchanged)", stack.runs[-1].output)
    assert counts == [("1", "updated"), ("4", "replaced"), ("2", "unchanged")]  # the stack, too
    for name in REPLACED:
        made = state.machines[new[name]]
        assert made.requested.instance_type == after[name].get("instance_type", ONE)
        assert made.requested.sector == after[name].get("sector")
        assert made.requested.ssh_key == after[name].get("ssh_key", SSH_KEY)
        assert made.created + made.provisioning <= state.machines[old[name]].gone_at
    assert state.machines[old["old_first"]].gone_at <= state.machines[new["old_first"]].created
    assert state.creations == len(old) + len(REPLACED) + 1
