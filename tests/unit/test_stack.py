"""What the stacks of a backend hold, by a `pulumi` that is made up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import StackError
from pulumi_fal.stacks import backend, state
from pulumi_fal.stacks import cli as pulumi_cli
from pulumi_fal.stacks.cache import Elsewhere, Stacks, in_words
from pulumi_fal.stacks.origin import ORGANIZATION_VARIABLE, Origin, own_organization
from pulumi_fal.stacks.state import IMPORT_REFUSED, StackMachine
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN, TYPE_TOKEN, is_ours

from ..fakes import EIGHT, HERE, URN

DEV, PROD, TEST = (f"organization/shop/{name}" for name in ("dev", "prod", "test"))
LIST = "the list of stacks"


class Pulumi:
    """Answers as the command does. `holds` is what it prints of each stack, or raises."""

    def __init__(self) -> None:
        self.holds: dict[str, str | Exception] = {}
        self.lists: str | Exception | None = None
        """What it prints as the list, if not the stacks that it holds."""
        self.url: str | Exception = "s3://bucket"
        self.about: str | Exception = StackError("`pulumi about` failed")
        self.calls: list[tuple[str, ...]] = []
        self.backends: set[str] = set()
        self.seconds: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(
        self, *args: str, backend: str = "", seconds: float = 30, folder: object = None
    ) -> str:
        self.calls.append(args)
        self.backends.add(backend)
        self.seconds.append(seconds)
        said = self._said(args)
        self.meanwhile()
        if isinstance(said, Exception):
            raise said
        return said

    def _said(self, args: tuple[str, ...]) -> str | Exception:
        if args[0] == "whoami":
            return json.dumps({"url": self.url}) if isinstance(self.url, str) else self.url
        if args[0] == "about":
            return self.about
        if args[:2] == ("stack", "ls"):
            of = f"/{args[3]}/" if args[2] == "--project" else ""
            listed = json.dumps([{"name": name} for name in self.holds if of in name])
            return listed if self.lists is None else self.lists
        assert args[:3] == ("stack", "export", "--stack")
        return self.holds.get(args[3]) or StackError(f"no stack named {args[3]!r} found")


@pytest.fixture
def pulumi(monkeypatch: pytest.MonkeyPatch) -> Pulumi:
    pulumi = Pulumi()
    monkeypatch.setattr(pulumi_cli, "pulumi", pulumi)
    monkeypatch.setattr(pulumi_cli, "folder", lambda: None)
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)
    return pulumi


def exported(*resources: dict[str, Any] | None) -> str:
    return json.dumps({"version": 3, "deployment": {"resources": list(resources)}})


def row(instance_id: str | None, token: str = TYPE_TOKEN, **others: Any) -> dict[str, Any]:
    return {"urn": URN, "type": token, **({"id": instance_id} if instance_id else {}), **others}


# A stack.


def test_the_ids_of_all_machines_in_state_are_told(pulumi: Pulumi) -> None:
    """All machines in state count, but none that is only read, not made yet, or refused.

    The state of a machine whose import was refused holds it only until the next command.
    """
    pulumi.holds[DEV] = exported(
        row("one"),
        row("old", delete=True),
        row(None),
        row("read", external=True),
        row("refused", NATIVE_TYPE_TOKEN, outputs={IMPORT_REFUSED: True}),
        row("other", "aws:ec2:Instance"),
        {"urn": URN, "type": "pulumi:pulumi:Stack"},
    )
    assert Stacks().ids(HERE) == frozenset({"one", "old"})
    assert pulumi.calls == [("stack", "export", "--stack", DEV)]
    assert pulumi.backends == {"file:///here"}


def test_machines_are_told_with_what_state_says_of_them(pulumi: Pulumi) -> None:
    """A value that is no plain text, as a secret, counts as absent."""
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
    pulumi.holds[DEV] = exported(
        row("one", outputs={"account": "1a2b", "endpoint": "https://x"}),
        row("eight", outputs={"ip": "192.0.2.1", "sector": "sector_2"}),
        row("old", delete=True),
        row("deleted", pendingReplacement=True),
        row("wanted", inputs={"instance_type": EIGHT, "sector": "sector_1"}),
        row("native", inputs={"instanceType": EIGHT}),
        row("bare"),
        row("null", outputs=None),
        row(
            "secret",
            inputs=dict.fromkeys(("instance_type", "sector"), secret),
            outputs=dict.fromkeys(("account", "endpoint", "ip", "sector"), secret),
        ),
    )
    assert Stacks().machines(HERE) == (
        StackMachine("one", URN, AccountId("https://x", "1a2b")),
        StackMachine("eight", URN, sector="sector_2", ip="192.0.2.1"),
        StackMachine("old", URN, is_replaced=True),
        StackMachine("deleted", URN, is_replaced=True),
        StackMachine("wanted", URN, instance_type=EIGHT, requested_sector="sector_1"),
        StackMachine("native", URN, instance_type=EIGHT),
        StackMachine("bare", URN),
        StackMachine("null", URN),
        StackMachine("secret", URN),
    )


@pytest.mark.parametrize(
    "created, moment",
    [
        ("2026-02-03T08:11:22Z", 1770106282),
        ("2026-02-03T08:11:22.123456789Z", 1770106282),
        ("2026-02-03T09:11:22.5+01:00", 1770106282),
        ("2026-02-03T08:11:22", 1770106282),
        ("yesterday", None),
        (1770106282, None),
        (None, None),
    ],
)
def test_machines_are_told_with_the_moment_that_state_has_of_their_creation(
    pulumi: Pulumi, created: object, moment: float | None
) -> None:
    """Moments are read as Go prints them, on every Python; anything else counts as absent."""
    pulumi.holds[DEV] = exported(row("one", created=created))
    assert state.machines(DEV) == [StackMachine("one", URN, created=moment)]


@pytest.mark.parametrize("resources", ["", ', "resources": null', ', "resources": []'])
def test_a_stack_without_resources_has_none(pulumi: Pulumi, resources: str) -> None:
    """A stack without resources is an answer, with no machines."""
    pulumi.holds[DEV] = f'{{"deployment": {{"version": 3{resources}}}}}'
    assert Stacks().ids(HERE) == frozenset()


@pytest.mark.parametrize(
    "output",
    [
        " ",
        "not JSON",
        "[]",
        "{}",
        '{"deployment": null}',
        '{"deployment": {"resources": [1]}}',
        '{"deployment": {"resources": [{"id": "no type"}]}}',
    ],
)
def test_what_is_no_export_is_no_answer(pulumi: Pulumi, output: str) -> None:
    """Output that is no export is no answer, and not a stack without machines."""
    pulumi.holds[DEV] = output
    assert Stacks().ids(HERE) is None
    assert Stacks().machines(HERE) is None


def test_a_state_file_that_is_just_being_written_is_read_again(pulumi: Pulumi) -> None:
    """An update writes it twice for each machine, and others read the stack meanwhile."""
    pulumi.holds[DEV] = cut = StackError("`pulumi` failed: failed to load checkpoint: EOF")

    def write() -> None:
        if len(pulumi.calls) == 3:
            pulumi.holds[DEV] = exported(row("one"))

    pulumi.meanwhile = write
    assert Stacks().ids(HERE) == frozenset({"one"})
    assert len(pulumi.calls) == 4

    pulumi.holds[DEV], pulumi.meanwhile = cut, lambda: None
    assert Stacks().ids(HERE) is None
    assert len(pulumi.calls) == 8


UNCERTAIN = [replace(HERE, urn=""), replace(HERE, organization=""), replace(HERE, backend="")]


@pytest.mark.parametrize("origin", UNCERTAIN)
def test_a_stack_that_is_not_known_for_sure_is_not_asked(pulumi: Pulumi, origin: Origin) -> None:
    """A stack that isn't known for sure isn't asked, since the answer could be another's."""
    pulumi.holds[DEV] = exported(row("one"))
    stacks = Stacks()
    assert stacks.machines(origin) is None
    assert stacks.ids(origin) is None
    assert stacks.is_gone(origin) is None
    assert pulumi.calls == []


def test_each_stack_is_asked_once_whatever_it_answers(pulumi: Pulumi) -> None:
    """A stack is asked once for all its resources, even if it gives no answer."""
    pulumi.holds[DEV] = exported(row("one"))
    stacks = Stacks()
    for name in ("web", "db"):
        assert stacks.ids(replace(HERE, urn=URN.replace("web", name))) == frozenset({"one"})
    assert len(pulumi.calls) == 1
    stacks.ids(replace(HERE, backend="file:///there"))
    assert len(pulumi.calls) == 2
    nowhere = replace(HERE, urn=URN.replace("dev", "nowhere"))
    assert [stacks.ids(nowhere), stacks.ids(nowhere)] == [None, None]
    assert len(pulumi.calls) == 3


def test_a_stack_that_is_forgotten_is_asked_again(pulumi: Pulumi) -> None:
    """An error tells what the stack has now. Other stacks are not asked again."""
    pulumi.holds |= {DEV: exported(row("one")), PROD: exported(row("other"))}
    stacks, prod = Stacks(), replace(HERE, urn=URN.replace("dev", "prod"))
    assert stacks.ids(HERE) == frozenset({"one"})
    assert stacks.ids(prod) == frozenset({"other"})
    pulumi.holds |= {DEV: exported(row("two")), PROD: exported(row("another"))}
    stacks.forget(HERE)
    assert stacks.ids(HERE) == frozenset({"two"})
    assert stacks.ids(prod) == frozenset({"other"})


def test_threads_that_ask_at_once_share_one_answer(pulumi: Pulumi) -> None:
    """Threads that ask at the same time wait for one command and share its answer."""
    pulumi.holds[DEV] = exported(row("one"))
    stacks, both = Stacks(), threading.Barrier(2)

    def ids(_: int) -> frozenset[str] | None:
        both.wait()
        return stacks.ids(HERE)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ids, range(2))) == [frozenset({"one"})] * 2
    assert len(pulumi.calls) == 1


# Stacks that are gone.


def test_threads_that_forget_a_stack_at_once_do_not_each_ask_for_it(pulumi: Pulumi) -> None:
    """When the API is down, the hooks of hundreds of machines repeat their creates at once."""
    pulumi.holds[DEV] = exported(row("one"))
    pulumi.meanwhile = lambda: time.sleep(0.05)
    stacks = Stacks()
    all_are_here = threading.Barrier(16)

    def read_again(number: int) -> frozenset[str] | None:
        all_are_here.wait()
        stacks.forget(HERE)
        return stacks.ids(HERE)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(read_again, range(16))) == {frozenset({"one"})}
    assert len(pulumi.calls) < 8


def test_a_stack_is_gone_when_the_backend_does_not_list_it(pulumi: Pulumi) -> None:
    """A stack is gone when the backend lists others and not this one."""
    pulumi.holds = {DEV: StackError("damaged")}
    stacks = Stacks()
    assert stacks.is_gone(HERE) is False
    assert stacks.is_gone(replace(HERE, urn=URN.replace("dev", "prod"))) is True
    assert len(pulumi.calls) == 1
    assert pulumi.backends == {"file:///here"}


@pytest.mark.parametrize(
    "lists", [StackError("no access"), '[{"name": "prod"}]', '{"name": "no list"}', "[1]"]
)
def test_whether_a_stack_is_gone_may_not_be_known(pulumi: Pulumi, lists: str | Exception) -> None:
    """Only a list of full names can show whether a stack is gone."""
    pulumi.lists = lists
    assert Stacks().is_gone(HERE) is None


# Other stacks.


def test_the_machines_of_all_other_stacks_are_told(pulumi: Pulumi) -> None:
    """The machines of the backend's other stacks are told, and unreadable stacks are named."""
    pulumi.holds = {
        DEV: exported(row("own")),
        PROD: exported(row("a"), row("b")),
        TEST: StackError("damaged"),
        "organization/bank/dev": exported(row("c")),
    }
    stacks = Stacks()
    told = Elsewhere({"a": PROD, "b": PROD, "c": "organization/bank/dev"}, {TEST: "damaged"})
    assert stacks.elsewhere(HERE) == told
    assert ("stack", "export", "--stack", DEV) not in pulumi.calls
    assert pulumi.backends == {"file:///here"}
    asked = len(pulumi.calls)
    assert stacks.elsewhere(HERE) == told
    assert len(pulumi.calls) == asked


def test_without_a_list_the_list_is_what_was_not_read(pulumi: Pulumi) -> None:
    """Without a list of stacks, the list itself is named as unread, with the reason."""
    pulumi.lists = StackError("no access")
    assert Stacks().elsewhere(HERE) == Elsewhere({}, {LIST: "no access"})


def test_what_there_is_no_time_for_is_unread(
    pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack for which no time is left is unread, and no command is begun for it."""
    now = 0.0
    monkeypatch.setattr(state, "_AT_ONCE", 1)
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def pass_time() -> None:
        nonlocal now
        now += 2

    pulumi.meanwhile = pass_time
    pulumi.holds = {
        DEV: exported(row("own")),
        **{f"organization/shop/{stack}": exported(row(stack)) for stack in "abcd"},
    }
    told = Stacks().elsewhere(HERE, 5)
    assert pulumi.seconds == [5, 3, 1]
    assert told.ids == {stack: f"organization/shop/{stack}" for stack in "ab"}
    assert told.unread == {
        f"organization/shop/{stack}": "there was no time for it within 5 s" for stack in "cd"
    }


def test_stacks_that_are_unread_for_one_reason_are_counted_and_three_are_named() -> None:
    """A backend of hundreds of stacks must not bury what a message says."""
    late = {f"acme/train/{number}": "no time" for number in range(40)}
    assert in_words({"acme/shop/prod": "damaged", **late}) == [
        "acme/shop/prod: damaged",
        "acme/train/0, acme/train/1, acme/train/2 and 37 more: no time",
    ]
    assert in_words(dict(list(late.items())[:3])) == [
        "acme/train/0, acme/train/1, acme/train/2: no time"
    ]
    assert in_words({}) == []


def test_the_list_that_another_thread_waits_for_is_not_waited_for_longer(pulumi: Pulumi) -> None:
    """A thread with less time doesn't wait for another thread's longer command."""
    stacks, asks, end = Stacks(), threading.Event(), threading.Event()

    def hang() -> None:
        asks.set()
        end.wait(60)

    pulumi.meanwhile = hang
    with ThreadPoolExecutor(1) as pool:
        gone = pool.submit(stacks.is_gone, HERE)
        asks.wait(60)
        unread = stacks.elsewhere(HERE, 0.05).unread
        end.set()
        assert gone.result() is True
    assert unread == {LIST: "`pulumi` gave no answer within 0.05 s"}


# The backend of this process.


def test_the_backend_is_asked_once(pulumi: Pulumi) -> None:
    """The backend is asked for once, for all stacks."""
    stacks = Stacks()
    assert [stacks.backend(), stacks.backend("dev", "shop")] == ["s3://bucket"] * 2
    assert pulumi.calls == [("whoami", "-v", "--json")]


def test_where_nobody_is_logged_in_the_backend_is_unknown(pulumi: Pulumi) -> None:
    """Where nobody is logged in, the backend is unknown, and nothing is raised."""
    pulumi.url = StackError("PULUMI_ACCESS_TOKEN must be set")
    assert Stacks().backend("dev", "shop") == ""


def test_a_pulumi_cloud_that_has_no_name_is_unknown(
    pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock in a folder is looked for, since it is no file backend."""
    monkeypatch.setattr(backend, "locked", lambda *_: pytest.fail("looked for a lock"))
    pulumi.url = ""
    assert Stacks().backend("dev", "shop") == ""


def test_a_relative_backend_is_found_by_the_lock_and_stays_found(
    pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative backend that was found by a lock stays found when the lock is gone."""
    found = iter(["", "file:///here", ""])
    asked: list[tuple[str, ...]] = []

    def locked(*args: str) -> str:
        asked.append(args)
        return next(found)

    monkeypatch.setattr(backend, "locked", locked)
    pulumi.url = "file://."
    stacks = Stacks()
    assert stacks.backend("dev", "shop") == ""
    assert stacks.backend("dev", "shop") == "file:///here"
    assert stacks.backend("dev", "shop") == "file:///here"
    assert asked == [("file://.", "dev", "shop")] * 2
    assert stacks.backend("prod", "shop") == ""


@pytest.mark.parametrize(
    "url, organization",
    [
        ("file:///here", "organization"),
        ("s3://bucket", "organization"),
        ("https://api.pulumi.com", ""),
        ("http://self-hosted", ""),
        ("", ""),
    ],
)
def test_only_pulumi_cloud_has_several_organizations(url: str, organization: str) -> None:
    """Only Pulumi Cloud has several organizations, and an unknown backend may be that."""
    assert own_organization(url) == organization


# The organization of this process's stack.


@pytest.fixture
def cloud(pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch) -> Pulumi:
    """Pulumi Cloud, where acme has the stack."""
    monkeypatch.delenv(ORGANIZATION_VARIABLE, raising=False)
    pulumi.url = "https://app.pulumi.com/me"
    pulumi.holds = {name: exported() for name in (ACME, "acme/shop/prod", "me/bank/dev")}
    return pulumi


ACME, ME = "acme/shop/dev", "me/shop/dev"
CLOUD = "https://api.pulumi.com"


def test_the_only_organization_with_the_stack_is_its_own(cloud: Pulumi) -> None:
    """The organization is looked up once per process, among the stacks of the project only."""
    stacks = Stacks()
    assert stacks.origin(URN, "") == stacks.origin(URN, "") == Origin(URN, "acme", CLOUD)
    assert cloud.calls[1:] == [
        ("stack", "ls", "--project", "shop", "--json", "--fully-qualify-stack-names")
    ]


def test_what_the_program_says_is_not_looked_up(cloud: Pulumi) -> None:
    """The organization that the program tells is certain, and costs no command."""
    assert Stacks().origin(URN, "me") == Origin(URN, "me", CLOUD)
    assert cloud.calls == [("whoami", "-v", "--json")]


@pytest.mark.parametrize("named, found", [("", ""), ("me", "me"), ("acme", "acme"), ("other", "")])
def test_of_several_organizations_the_environment_names_the_one(
    cloud: Pulumi, monkeypatch: pytest.MonkeyPatch, named: str, found: str
) -> None:
    """Without it, or if that organization has no such stack, the organization is unknown."""
    cloud.holds[ME] = exported()
    monkeypatch.setenv(ORGANIZATION_VARIABLE, named)
    origin = Stacks().origin(URN, "")
    assert origin == Origin(URN, found, CLOUD)
    assert origin.unknown == ([] if found else ["organization"])


def test_the_environment_does_not_overrule_what_pulumi_lists(
    cloud: Pulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable may be set for another stack, in a shell's profile."""
    monkeypatch.setenv(ORGANIZATION_VARIABLE, "me")
    assert Stacks().origin(URN, "").organization == "acme"


@pytest.mark.parametrize("named", ["", "acme"])
@pytest.mark.parametrize("lists", [StackError("403"), "[]", '[{"name": "dev"}]'])
def test_where_pulumi_lists_nothing_the_environment_is_believed(
    cloud: Pulumi, monkeypatch: pytest.MonkeyPatch, named: str, lists: str | Exception
) -> None:
    """A token may not be allowed to list stacks."""
    cloud.lists = lists
    monkeypatch.setenv(ORGANIZATION_VARIABLE, named)
    assert Stacks().origin(URN, "").organization == named


def test_a_machine_is_in_state_if_any_stack_that_may_be_meant_has_it(cloud: Pulumi) -> None:
    """A machine that none of them has may still be in state, as long as the stack is not known."""
    cloud.holds |= {ACME: exported(row("one")), ME: exported(row("two"))}
    stacks, unknown = Stacks(), Origin(URN, "", CLOUD)
    assert [stacks.has(unknown, id_) for id_ in ("one", "two", "three")] == [True, True, None]
    known = Origin(URN, "acme", CLOUD)
    assert [stacks.has(known, id_) for id_ in ("one", "two")] == [True, False]
    assert {machine.id for machine in stacks.possible_machines(unknown)} == {"one", "two"}
    assert stacks.has(Origin(URN, "", ""), "one") is None


def test_without_an_organization_the_machines_of_every_stack_are_told(cloud: Pulumi) -> None:
    """A machine in state is nobody's to take, also where it is not known which stack this is."""
    cloud.holds |= {ACME: exported(row("one")), ME: exported(row("two"))}
    told = Elsewhere({"one": ACME, "two": ME}, {})
    assert Stacks().elsewhere(Origin(URN, "", CLOUD)) == told


def test_without_a_backend_the_other_stacks_are_unknown(cloud: Pulumi) -> None:
    """The reason says what is not known."""
    reason = "it is not known which backend this stack is in"
    assert Stacks().elsewhere(Origin(URN, "acme", "")) == Elsewhere({}, {LIST: reason})


# Names and config.


@pytest.mark.parametrize(
    "urn, ours",
    [
        (URN, True),
        (URN.replace("::pulumi-python", "::my:Comp$pulumi-python"), True),
        (URN.replace("ComputeInstance", "Other"), False),
        ("urn:pulumi:dev::shop::pulumi:pulumi:Stack::shop-dev", False),
        ("", False),
    ],
)
def test_our_resources_are_known_by_their_urn(urn: str, ours: bool) -> None:
    """A machine's URN is recognized with and without parents."""
    assert is_ours(urn) is ours


def test_all_stacks_of_the_backend_are_told(pulumi: Pulumi) -> None:
    """All stacks of the backend are listed by their full names, in order."""
    pulumi.lists = '[{"name": "organization/shop/prod"}, {"name": "organization/bank/dev"}]'
    assert state.names() == ["organization/bank/dev", "organization/shop/prod"]
    assert pulumi.backends == {""}


def test_the_config_is_told_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The config is read without decrypting its secrets."""
    values: Any = {"fal:endpoint": {"value": "https://x", "secret": False}, "k": {"secret": True}}
    monkeypatch.setattr(pulumi_cli, "pulumi", lambda *args, **others: json.dumps(values))
    assert state.config() == {"fal:endpoint": "https://x", "k": None}
    values = []
    with pytest.raises(StackError, match="not a config"):
        state.config()
