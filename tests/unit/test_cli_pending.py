"""`pulumi-fal pending`: what it shows of creates that are not settled, and the ways out of them."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click
import pytest

from pulumi_fal.api.models import Instance
from pulumi_fal.errors import UnresolvedCreateError
from pulumi_fal.machines import unresolved
from pulumi_fal.machines.entry import Entry, Phase
from pulumi_fal.stacks import backend
from pulumi_fal.stacks.cache import Elsewhere, Stacks
from pulumi_fal.stacks.origin import Origin
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN

from ..fakes import EIGHT
from .cli_support import BACKEND, CommandLine, command_line, urn
from .cli_support import NOW as NOW_SECONDS

DEV, PROD, TEST = (f"organization/train/{name}" for name in ("dev", "prod", "test"))


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(tmp_path, monkeypatch) as line:
        yield line


def test_where_nothing_is_pending_it_says_so(line: CommandLine) -> None:
    """Without a key, a person reads a sentence and a program an empty list."""
    assert line.run("pending", "ls") == "No create is pending.\n"
    assert line.json("pending", "ls") == []
    assert line.emulator.state.calls.total() == 0


def test_ls_shows_a_machine_that_pulumi_was_not_told_of(line: CommandLine) -> None:
    """A record shows its resource, stack, backend, time and machine, and what `up` does."""
    id_ = line.rent()
    line.pend(phase=Phase.CREATED, instance_id=id_)
    shown = line.run("pending", "ls")
    for part in (
        urn("box"),
        f"{DEV}, {BACKEND}",
        "2023-11-1",
        "days ago",
        "the API created the machine, but Pulumi was not told of it",
        f"{id_} (gpu_1x_h100_sxm5, ready, ",
        "Run `pulumi up`, unless it is already running: it continues with this machine.",
    ):
        assert part in shown


def test_ls_as_json_has_each_part_by_name(line: CommandLine) -> None:
    """A program finds each part of a record under a name of its own."""
    id_ = line.rent()
    line.pend(phase=Phase.CREATED, instance_id=id_)
    (shown,) = line.json("pending", "ls")
    assert "continues with this machine" in shown.pop("what_to_do")
    assert shown.pop("ip")
    assert shown == {
        "urn": urn("box"),
        "name": "box",
        "stack": "dev",
        "project": "train",
        "organization": "organization",
        "backend": BACKEND,
        "phase": "waiting",
        "problem": None,
        "instance_type": "gpu_1x_h100_sxm5",
        "sector": None,
        "id": id_,
        "status": "ready",
        "candidates": None,
        "unread_stacks": {},
        "in_state": None,
        "machines_unknown": None,
        "since": "2023-11-14T22:13:20+00:00",
    }


def test_ls_names_what_an_unanswered_create_may_have_made(line: CommandLine) -> None:
    """Candidates are machines of the type that nobody is known to have."""
    before, other, mine, pending = line.rent(), line.rent(EIGHT), line.rent(), line.rent()
    held = line.rent()
    line.stacks[DEV] = {"other": held}
    line.pend("second", phase=Phase.CREATED, instance_id=pending)
    line.pend(before=(before,), problem="POST /compute/instance got no answer: timed out")
    shown = next(record for record in line.json("pending", "ls") if record["name"] == "box")
    assert shown["candidates"] == [mine]
    assert f"\n  pulumi-fal pending adopt {urn('box')} {mine}\n" in shown["what_to_do"]
    assert "no usable answer: POST /compute/instance got no answer" in line.run("pending", "ls")
    assert other not in shown["candidates"]
    second = line.rent()
    shown = next(record for record in line.json("pending", "ls") if record["name"] == "box")
    assert shown["candidates"] == [mine, second]
    assert f"\n  pulumi-fal pending adopt {urn('box')} ID\n" in shown["what_to_do"]


def test_ls_offers_no_machine_that_another_stack_has(line: CommandLine) -> None:
    """Destroying either stack would delete the machine of both; unreadable stacks are named."""
    theirs, mine = line.rent(), line.rent()
    line.stacks = {DEV: {}, PROD: {"box": theirs}, TEST: "the checkpoint is damaged"}
    line.pend(problem="no answer")
    (shown,) = line.json("pending", "ls")
    assert shown["candidates"] == [mine]
    assert shown["unread_stacks"] == {TEST: "the checkpoint is damaged"}
    assert f"not read  {TEST}: the checkpoint is damaged" in line.run("pending", "ls")


def test_ls_offers_no_machine_that_was_made_long_after_the_create(line: CommandLine) -> None:
    """The lists of two later creates show that the machine was not there for long."""
    later = line.rent()
    line.pend(problem="no answer")
    for name, hours in (("first", 1), ("second", 2)):
        line.pend(
            name, phase=Phase.CREATED, instance_id=name, first_sent=NOW_SECONDS + 3600 * hours
        )
    shown = next(record for record in line.json("pending", "ls") if record["name"] == "box")
    assert shown["candidates"] == []
    assert "made long before or after" in line.refused("pending", "adopt", "box", later)


def test_ls_says_what_up_does_about_a_machine_that_was_first_seen_late(line: CommandLine) -> None:
    """A machine that was seen late stops nothing, and the advice says nothing else."""
    seen = line.rent()
    line.pend(problem="no answer", searched=True)
    (shown,) = line.json("pending", "ls")
    assert shown["candidates"] == [seen]
    assert "`pulumi up`, which creates a new machine, because" in shown["what_to_do"]


def test_ls_says_where_an_unanswered_create_made_nothing(line: CommandLine) -> None:
    """A create that made nothing is said to be safe to run again."""
    line.pend()
    assert line.json("pending", "ls")[0]["candidates"] == []
    assert "none has appeared" in line.run("pending", "ls")


def test_ls_says_that_a_machine_is_gone(line: CommandLine) -> None:
    """A machine that is gone leaves nothing to adopt."""
    line.pend(phase=Phase.CREATED, instance_id="i-gone")
    shown = line.run("pending", "ls")
    assert "i-gone (gpu_1x_h100_sxm5); gone: the API does not list it" in shown
    assert "which creates a new machine" in shown


@pytest.mark.parametrize(
    "held, says, advice",
    [
        (
            {},
            "and Pulumi was told of it; it is not in state",
            "To use the machine for this resource",
        ),
        ("locked away", "and Pulumi was told of it\n", "To use the machine for this resource"),
    ],
)
def test_ls_asks_the_stack_what_became_of_a_machine(
    line: CommandLine, held: dict[str, str] | str, says: str, advice: str
) -> None:
    """The stack tells whether Pulumi took in the machine that it was told of."""
    id_ = line.rent()
    line.stacks[DEV] = held if isinstance(held, str) else dict.fromkeys(held, id_)
    line.pend(phase=Phase.REPORTED, instance_id=id_)
    shown = line.run("pending", "ls")
    assert says in shown
    assert advice in shown


def test_ls_counts_what_is_in_state_by_now(line: CommandLine) -> None:
    """Records of machines that state has are only counted."""
    id_ = line.rent()
    line.stacks[DEV] = {"box": id_}
    line.pend(phase=Phase.REPORTED, instance_id=id_)
    assert line.run("pending", "ls") == (
        "No create is pending.\n"
        "Records of creates whose machine is in state: 1. The next run of `pulumi` removes them.\n"
    )
    (shown,) = line.json("pending", "ls")
    assert shown["in_state"] is True
    assert shown["what_to_do"].startswith("Nothing")


def test_ls_works_without_a_key_and_without_the_api(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without key or API, the records are shown, and why there is no more."""
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    line.pend(phase=Phase.CREATED, instance_id="i-1")
    line.pend("asked")
    shown = line.run("pending", "ls")
    assert "i-1 (gpu_1x_h100_sxm5); the machines can't be listed: No fal API key is set" in shown
    assert line.json("pending", "ls")[1]["candidates"] is None


def test_ls_says_when_another_key_made_it(line: CommandLine) -> None:
    """A machine of another key may run although this key doesn't list it."""
    line.pend(phase=Phase.CREATED, instance_id="i-1", account="another")
    assert "i-1 (gpu_1x_h100_sxm5); it was created with another key" in line.run("pending", "ls")


def test_ls_shows_what_it_cannot_read(line: CommandLine) -> None:
    """A damaged record is named, and the others are still shown."""
    entry = line.pend()
    (line.journal.folder / "0-0.json").write_text("{")
    assert "0-0.json\n  phase  unreadable: it is damaged" in line.run("pending", "ls").replace(
        "   ", "  "
    )
    broken, whole = sorted(line.json("pending", "ls"), key=lambda record: "urn" in record)
    assert broken["problem"] == "is damaged"
    assert whole["urn"] == entry.origin.urn


def test_adopt_writes_which_machine_it_is(line: CommandLine) -> None:
    """The record holds the machine for the next `up`, and no longer a problem."""
    id_ = line.rent()
    line.pend(problem="no answer")
    assert f"Machine {id_} is assigned to resource 'box'" in line.run(
        "pending", "adopt", urn("box"), id_
    )
    (entry,) = line.pending()
    assert (entry.phase, entry.instance_id, entry.problem) == (Phase.ADOPTED, id_, "")


def test_a_name_will_do_where_only_one_resource_has_it(line: CommandLine) -> None:
    """The name of a resource is enough where only one has it."""
    id_ = line.rent()
    line.pend("other")
    line.pend()
    line.run("pending", "adopt", "box", id_)
    assert [entry.instance_id for entry in line.pending() if entry.phase == Phase.ADOPTED] == [id_]


def test_a_name_that_two_resources_have_is_refused(line: CommandLine) -> None:
    """A name that two resources have is refused with both URNs."""
    line.pend()
    line.pend(urn=urn("box", "prod"))
    says = line.refused("pending", "forget", "box", "--yes")
    assert "Say which by its URN" in says
    assert urn("box") in says
    assert urn("box", "prod") in says
    assert len(line.pending()) == 2


def test_a_urn_of_two_backends_needs_the_backend(line: CommandLine) -> None:
    """A URN that two backends have is refused until one is named."""
    line.pend()
    elsewhere = BACKEND.replace("state", "elsewhere")
    line.pend(backend=elsewhere)
    says = line.refused("pending", "forget", urn("box"), "--yes")
    assert "Say which with --organization and --backend" in says
    line.run("pending", "forget", urn("box"), "--backend", f"{elsewhere}/", "--yes")
    assert [entry.origin.backend for entry in line.pending()] == [BACKEND]


def test_forget_names_a_machine_that_one_list_lacks(line: CommandLine) -> None:
    """A single list may come from a stale replica, and nothing else would know of the machine."""
    id_ = line.rent()
    line.pend(problem="no answer")
    line.emulator.faults.add("list", "lapse")
    assert id_ in line.run("pending", "forget", "box", "--yes")


def test_a_record_whose_machine_is_in_state_is_not_meant(line: CommandLine) -> None:
    """An ordinary `up` of a stack with the same names leaves a record until the next command."""
    settled, open_ = line.rent(), line.rent()
    line.stacks = {"acme/train/dev": {"box": settled}, "me/train/dev": {}}
    for organization, id_ in (("acme", settled), ("me", open_)):
        line.pend(organization=organization, phase=Phase.REPORTED, instance_id=id_)
    line.run("pending", "forget", urn("box"), "--yes")
    assert [entry.origin.organization for entry in line.pending()] == ["acme"]


def test_what_is_not_pending_is_refused(line: CommandLine) -> None:
    """A URN without a record is refused with the command that lists them."""
    line.pend()
    assert "No create of 'bax' is pending. `pulumi-fal pending ls`" in line.refused(
        "pending", "adopt", "bax", "i-1"
    )
    assert "pending there" in line.refused("pending", "forget", "box", "--organization", "acme")


def test_a_damaged_record_is_not_taken_for_none(line: CommandLine) -> None:
    """A damaged record may be the one that was asked for."""
    line.journal.folder.mkdir(parents=True)
    (line.journal.folder / "0-0.json").write_text("{")
    assert "is damaged" in line.refused("pending", "forget", "box", "--yes")


def test_adopt_refuses_a_machine_that_does_not_exist(line: CommandLine) -> None:
    """An unknown id is refused, since the next `up` would make another machine."""
    line.pend()
    assert "there is no such machine" in line.refused("pending", "adopt", "box", "i-1")
    assert line.pending()[0].phase == Phase.REQUESTED


def test_adopt_asks_for_a_key_of_the_account_that_the_create_used(line: CommandLine) -> None:
    """The key that is set says nothing about the machines of another account."""
    line.pend(account="0123456789ab", endpoint="https://rest.alpha.fal.ai")
    said = line.refused("pending", "adopt", "box", "i-1")
    assert "its create used account 0123456789ab at https://rest.alpha.fal.ai" in said
    assert "FAL_ADMIN_API_KEY set to a key of that account" in said
    assert "its apiKey" in said
    assert "no such machine" not in said


def test_adopt_takes_a_machine_that_another_key_of_its_account_sees(line: CommandLine) -> None:
    """A rotated key is as good as the one of the create."""
    line.pend(account="0123456789ab")
    assert "is assigned" in line.run("pending", "adopt", "box", line.rent())


@pytest.mark.parametrize(
    "asked, rented, says",
    [
        (
            {"instance_type": EIGHT},
            ("gpu_1x_h100_sxm5", None),
            f"its type is gpu_1x_h100_sxm5, but {EIGHT} was requested",
        ),
        (
            {"instance_type": EIGHT, "sector": "sector_1"},
            (EIGHT, "sector_2"),
            "its sector is sector_2, but sector_1 was requested",
        ),
    ],
)
def test_adopt_refuses_a_machine_of_another_kind(
    line: CommandLine, asked: dict[str, str], rented: tuple[str, str | None], says: str
) -> None:
    """A machine of another type or sector is refused with both values."""
    id_ = line.rent(*rented)
    line.pend(**asked)
    assert says in line.refused("pending", "adopt", "box", id_)
    assert line.pending()[0].phase == Phase.REQUESTED


def test_adopt_refuses_a_machine_that_was_there_before(line: CommandLine) -> None:
    """A machine that was there before the create must be somebody else's."""
    id_ = line.rent()
    line.pend(before=(id_,))
    assert "it existed before this create" in line.refused("pending", "adopt", "box", id_)


def test_adopt_refuses_another_machine_than_the_create_made(line: CommandLine) -> None:
    """A create whose machine is known accepts no other, which would lose the first."""
    made, other = line.rent(), line.rent()
    line.pend(phase=Phase.CREATED, instance_id=made)
    assert f"its create made {made}" in line.refused("pending", "adopt", "box", other)
    line.run("pending", "adopt", "box", made)


def test_adopt_refuses_a_machine_that_is_pending_for_another(line: CommandLine) -> None:
    """A machine that is on record for another resource would be deleted by both."""
    id_ = line.rent()
    line.pend("first", phase=Phase.CREATED, instance_id=id_)
    line.pend()
    assert f"pending for {urn('first')}" in line.refused("pending", "adopt", "box", id_)


def test_adopt_refuses_a_machine_that_is_in_state(line: CommandLine) -> None:
    """A machine that is in state would be deleted by both resources."""
    id_ = line.rent()
    line.stacks[DEV] = {"first": id_}
    line.pend()
    assert "already in the state of its stack" in line.refused("pending", "adopt", "box", id_)


def test_adopt_refuses_a_machine_that_another_stack_has(line: CommandLine) -> None:
    """If both stacks had it, destroying one would delete the machine of the other."""
    id_ = line.rent()
    line.stacks = {DEV: {}, PROD: {"box": id_}}
    entry = line.pend()
    says = line.refused("pending", "adopt", "box", id_)
    assert f"it is in the state of the stack {PROD}. If both stacks had it" in says
    assert line.pending() == [entry]


def test_adopt_names_the_stacks_that_may_have_the_machine(line: CommandLine) -> None:
    """A person who knows better may go on."""
    id_ = line.rent()
    line.stacks = {DEV: {}, PROD: "the checkpoint is damaged"}
    line.pend()
    shown = line.run("pending", "adopt", "box", id_)
    assert f"may have the machine:\n  {PROD}: the checkpoint is damaged" in shown
    assert line.pending()[0].instance_id == id_


@pytest.mark.parametrize("change", ["changed", "dropped", "in progress"])
@pytest.mark.parametrize("command", ["adopt", "forget"])
def test_a_record_that_changes_while_a_command_looks_is_left_alone(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, command: str, change: str
) -> None:
    """An `up` may begin while a person reads the prompt, and overwrite the record."""
    id_ = line.rent()
    entry = line.pend()
    now = replace(entry, problem="of another create")
    with ExitStack() as lock:

        def meanwhile(*_: object, **__: object) -> dict[str, str]:
            if change == "changed":
                line.journal.write(now)
            elif change == "dropped":
                line.journal.drop(entry)
            else:
                taken = line.journal.try_lock(entry.origin)
                assert taken is not None
                lock.enter_context(taken)
            return {}

        if command == "forget":
            monkeypatch.setattr(click, "confirm", meanwhile)
            says = line.refused("pending", "forget", "box")
        else:
            monkeypatch.setattr(Stacks, "elsewhere", lambda *_: Elsewhere(meanwhile(), {}))
            says = line.refused("pending", "adopt", "box", id_)
    assert "has changed since this command read it, so nothing was done" in says
    assert "`pulumi-fal pending ls` again" in says
    expected = {"changed": [now], "dropped": [], "in progress": [entry]}[change]
    assert line.pending() == expected


# Creates without an answer that another create has followed.


def test_ls_shows_a_late_machine_and_what_to_do_about_it(line: CommandLine) -> None:
    """A late machine is beside the present machine of its resource, which is in state."""
    present, made = line.rent(), line.rent()
    line.stacks[DEV] = {"box": present}
    line.pend(phase=Phase.LATE, problem="no answer")
    (shown,) = line.json("pending", "ls")
    assert (shown["phase"], shown["candidates"]) == ("late", [made])
    text = line.run("pending", "ls")
    assert "followed by another one or forgotten" in text
    assert f"{made} (gpu_1x_h100_sxm5, ready" in text
    assert f"\n              pulumi-fal pending forget {urn('box')} --late" in text


@pytest.mark.parametrize(
    "seconds, says", [(0, "Nothing now: if a machine still"), (3600, "removes this record")]
)
def test_ls_says_that_no_late_machine_has_appeared(
    line: CommandLine, seconds: int, says: str
) -> None:
    """There is nothing to do as long as none appears."""
    line.pend(phase=Phase.LATE, problem="no answer", started=time.time() - seconds)
    shown = line.run("pending", "ls")
    assert "none has appeared" in shown
    assert says in shown


def test_forget_late_leaves_the_record_of_the_present_create(line: CommandLine) -> None:
    """The two records are of two machines."""
    present = line.pend()
    line.pend(phase=Phase.LATE)
    line.pend(phase=Phase.LATE, started=present.started + 60)
    made = line.rent()
    shown = line.run("pending", "forget", "box", "--late", "--yes")
    assert shown.count(made) == 1
    assert "present machine of resource 'box' is not affected" in shown
    assert line.pending() == [present]
    assert "No create of 'box' is pending" in line.refused(
        "pending", "forget", "box", "--late", "--yes"
    )


def test_forget_means_the_present_create_where_there_is_one(line: CommandLine) -> None:
    """Without another one, the late record is meant."""
    line.pend()
    late = line.pend(phase=Phase.LATE)
    line.run("pending", "forget", "box", "--yes")
    assert line.pending() == [late]
    line.run("pending", "forget", "box", "--yes")
    assert line.pending() == []


def test_a_late_machine_is_imported_and_not_adopted(line: CommandLine) -> None:
    """The resource has another machine, or is about to, and the next `up` ignores the late one."""
    id_ = line.rent()
    late = line.pend(phase=Phase.LATE)
    assert "Import the machine into a stack instead" in line.refused("pending", "adopt", "box", id_)
    assert line.pending() == [late]


def test_the_present_create_can_adopt_beside_a_late_one(line: CommandLine) -> None:
    """Both answers were lost, and the machine may come from either."""
    id_ = line.rent()
    late = line.pend(phase=Phase.LATE)
    line.pend()
    line.run("pending", "adopt", "box", id_)
    assert {(entry.phase, entry.instance_id) for entry in line.pending()} == {
        (Phase.LATE, None),
        (Phase.ADOPTED, id_),
    }
    assert late in line.pending()


# A journal, and a backend, that the command must find as `pulumi` does.


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_journal_that_cannot_be_read_is_not_taken_for_an_empty_one(
    line: CommandLine, options: list[str]
) -> None:
    """A journal that can't be read may have records of creates."""
    line.journal.folder.parent.parent.mkdir(parents=True)
    line.journal.folder.parent.touch()
    assert "creates) can't be read: " in line.refused("pending", "ls", *options)


def test_a_backend_in_the_home_folder_is_that_of_the_account(
    line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sudo` and containers may set $HOME to another folder, which `pulumi` ignores."""
    states = backend.absolute("file://~/states", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    line.pend(backend=states)
    line.run("pending", "forget", "box", "--backend", "file://~/states", "--yes")
    assert line.pending() == []


def test_adopt_can_be_corrected(line: CommandLine) -> None:
    """An adopted record can be given another machine."""
    wrong, right = line.rent(), line.rent()
    line.pend()
    line.run("pending", "adopt", "box", wrong)
    line.run("pending", "adopt", "box", right)
    assert [entry.instance_id for entry in line.pending()] == [right]


def test_adopt_asks_for_what_the_record_lacks_and_completes_it(line: CommandLine) -> None:
    """Adopting asks for the backend that the record lacks, and completes the record."""
    id_ = line.rent()
    line.pend(backend="", organization="")
    says = line.refused("pending", "adopt", "box", id_)
    assert "--backend and --organization" in says
    line.run("pending", "adopt", "box", id_, "--backend", BACKEND, "--organization", "organization")
    (entry,) = line.pending()
    assert (entry.origin.backend, entry.origin.organization) == (BACKEND, "organization")
    assert entry.phase == Phase.ADOPTED


CLOUD = {"backend": "https://api.pulumi.com", "organization": ""}
NATIVE = urn("box", type_=NATIVE_TYPE_TOKEN)


def test_a_record_that_lacks_the_only_organization_needs_no_options(line: CommandLine) -> None:
    """Only one organization has a stack of that name, so the printed command names it."""
    id_ = line.rent()
    line.stacks = {"acme/train/dev": {}, "acme/train/prod": {}, "me/bank/dev": {}}
    line.pend(**CLOUD, phase=Phase.CREATED, instance_id=id_)
    (shown,) = line.json("pending", "ls")
    assert f"{id_} --backend https://api.pulumi.com --organization acme\n" in shown["what_to_do"]
    assert "Several organizations" not in line.run("pending", "adopt", "box", id_)
    (entry,) = line.pending()
    assert (entry.origin.organization, entry.phase) == ("acme", Phase.ADOPTED)


def test_of_several_organizations_adopt_asks_for_the_one_and_names_the_setting(
    line: CommandLine,
) -> None:
    """A program with the Python package tells its organization; the native plugin must be told."""
    id_ = line.rent()
    line.stacks = {"acme/train/dev": {}, "me/train/dev": {}}
    for resource in (urn("box"), NATIVE):
        entry = line.pend(**CLOUD, urn=resource, phase=Phase.CREATED, instance_id=id_)
        assert "Add --organization." in line.refused("pending", "adopt", resource, id_)
        says = line.run("pending", "adopt", resource, id_, "--organization", "me")
        setting = "run it with FAL_COMPUTE_ORGANIZATION=me in the environment"
        assert (setting in says) is (resource == NATIVE)
        line.journal.drop(replace(entry, origin=replace(entry.origin, organization="me")))


def test_a_machine_that_one_of_several_stacks_has_is_not_pending(line: CommandLine) -> None:
    """The record lacks the organization, and one of those that it may mean has the machine."""
    id_ = line.rent()
    line.stacks = {"acme/train/dev": {}, "me/train/dev": {"box": id_}}
    line.pend(**CLOUD, phase=Phase.REPORTED, instance_id=id_)
    assert "No create is pending.\n" in line.run("pending", "ls")
    forgotten = line.run("pending", "forget", "box", "--yes")
    assert f"Machine {id_} stays in state." in forgotten
    assert "creates a new machine" not in forgotten


def test_a_backend_is_meant_by_its_folder(line: CommandLine, tmp_path: Path) -> None:
    """A backend's relative URL counts from the current folder."""
    (tmp_path / "state").mkdir()
    line.pend(backend=f"file://{(tmp_path / 'state').resolve().as_posix()}")
    line.run("pending", "forget", "box", "--backend", "file://./state", "--yes")
    assert line.pending() == []


def test_forget_names_the_machine_that_may_run_and_asks(line: CommandLine) -> None:
    """Nobody else knows of the machine once the record is forgotten, so a person confirms."""
    id_ = line.rent()
    line.pend(phase=Phase.CREATED, instance_id=id_)
    line.run("pending", "forget", "box", code=1, typed="n\n")
    assert len(line.pending()) == 1
    shown = line.run("pending", "forget", "box", typed="y\n")
    assert f"This machine may still run and bill, but is not in state: {id_}" in shown
    assert line.pending() == []
    assert line.emulator.state.alive() == {id_}


def test_forget_asks_nothing_with_yes_and_forgets_nothing_without_an_answer(
    line: CommandLine,
) -> None:
    """`--yes` confirms, and without an answer nothing is forgotten."""
    line.pend()
    line.run("pending", "forget", "box", code=1, typed="")
    assert len(line.pending()) == 1
    line.run("pending", "forget", "box", "--yes")
    assert line.pending() == []


def test_a_forgotten_create_stays_on_record_as_late_while_its_machine_may_still_appear(
    line: CommandLine,
) -> None:
    """The machine that the list shows is not its own, as the person says, but another may come."""
    others = line.rent()
    entry = line.pend(problem="no answer", started=time.time(), first_sent=time.time())
    said = line.run("pending", "forget", "box", "--yes")
    assert "If the API still makes the machine of this create, every command names it." in said
    (late,) = line.pending()
    assert (late.phase, late.found) == (Phase.LATE, ())
    assert others in late.before

    made = line.rent()
    (shown,) = line.json("pending", "ls")
    assert shown["candidates"] == [made]
    line.run("pending", "forget", "box", "--yes")
    assert line.pending() == []
    assert entry.started == late.started


def test_forget_says_that_a_machine_may_run_which_it_cannot_name(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key there is no list of candidates, so only the risk is named."""
    monkeypatch.delenv("FAL_ADMIN_API_KEY")
    line.pend()
    assert "a machine whose id is not known" in line.run("pending", "forget", "box", "--yes")


@pytest.mark.parametrize("command", [["forget", "box", "--yes"], ["adopt", "box", "i-1"]])
def test_nothing_is_said_of_a_create_that_is_under_way(
    line: CommandLine, command: list[str]
) -> None:
    """A record is left alone while its create is under way."""
    entry = line.pend()
    lock = line.journal.try_lock(entry.origin)
    assert lock is not None
    with lock:
        assert "is in progress in another process" in line.refused("pending", *command)
    assert line.pending() == [entry]


def test_adopt_takes_a_record_over_to_the_resource_of_a_renamed_stack(line: CommandLine) -> None:
    """`--for` moves the record of a renamed stack to the resource of today."""
    id_, now = line.rent(), urn("box", "renamed")
    entry = line.pend(phase=Phase.CREATED, instance_id=id_)
    line.run("pending", "adopt", "box", id_, "--for", now)
    (adopted,) = line.pending()
    assert adopted.origin == replace(entry.origin, urn=now)
    assert (adopted.phase, adopted.instance_id) == (Phase.ADOPTED, id_)


def test_adopt_writes_over_no_other_record(line: CommandLine) -> None:
    """A resource that has a record of its own gets no second one."""
    id_, other = line.rent(), line.rent()
    line.pend(urn=urn("box", "old"), phase=Phase.CREATED, instance_id=id_)
    line.pend(phase=Phase.CREATED, instance_id=other)
    refused = line.refused("pending", "adopt", urn("box", "old"), id_, "--for", urn("box"))
    assert "is already pending" in refused
    assert {entry.instance_id for entry in line.pending()} == {id_, other}


def test_adopt_takes_no_other_urn(line: CommandLine) -> None:
    """A record for a URN that is no machine's would never be found again."""
    line.pend()
    line.run("pending", "adopt", "box", line.rent(), "--for", "box", code=2)
    assert "not the URN of a ComputeInstance" in line.stderr


def test_forget_warns_of_nothing_where_state_has_the_machine(line: CommandLine) -> None:
    """A machine that state has is forgotten without a warning."""
    id_ = line.rent()
    line.stacks[DEV] = {"box": id_}
    line.pend(phase=Phase.REPORTED, instance_id=id_)
    assert "may still run" not in line.run("pending", "forget", "box", "--yes")


def test_an_error_of_the_family_is_one_message(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error is one message on stderr, without a traceback, and the exit code is 1."""
    monkeypatch.setenv("FAL_COMPUTE_ENDPOINT", "http://fal.test")
    line.pend()
    says = line.refused("pending", "adopt", "box", "i-1")
    assert says.startswith("Error: The endpoint (http://fal.test) can't be used")


NOW = Origin(urn("box"), "organization", BACKEND)
OLD = urn("box", "old")


def messages(entry: Entry, machine: Instance) -> dict[str, UnresolvedCreateError]:
    """Every error that stops a create and names commands."""
    known = replace(entry, instance_id=machine.id)
    return {
        "unanswered": unresolved.unanswered(entry, [machine]),
        "stopped": unresolved.stopped(known, "the resource's inputs have changed since"),
        "uncertain": unresolved.uncertain(known, NOW),
        "renamed": unresolved.renamed(entry, NOW, [machine], is_gone=True),
    }


@pytest.mark.parametrize("verb", ["adopt", "forget"])
@pytest.mark.parametrize(
    "message, recorded",
    [
        ("unanswered", {}),
        ("stopped", {"phase": Phase.REPORTED}),
        ("uncertain", {"phase": Phase.CREATED, "backend": "", "organization": ""}),
        ("renamed", {"urn": OLD}),
    ],
)
def test_the_commands_that_an_error_names_do_what_it_says(
    line: CommandLine, message: str, recorded: dict[str, str], verb: str
) -> None:
    """The commands of an error work as they are printed, with only ID filled in."""
    id_ = line.rent()
    known = {"instance_id": id_} if "phase" in recorded else {}
    entry = line.pend(**recorded, **known)
    said = str(messages(entry, line.emulator.state.get(id_))[message])
    (command,) = re.findall(rf"(?m)^  pulumi-fal (pending {verb} .+)$", said)
    words = [id_ if word == "ID" else word for word in shlex.split(command)]
    if verb == "forget":
        line.run(*words, "--yes")
        assert line.pending() == []
    else:
        line.run(*words)
        (adopted,) = line.pending()
        assert (adopted.origin, adopted.phase, adopted.instance_id) == (NOW, Phase.ADOPTED, id_)
