"""What the stacks of a backend hold, by a `pulumi` that is made up, and how that is run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal.api.settings import AccountId
from pulumi_fal.errors import StackError
from pulumi_fal.stacks import cache, state
from pulumi_fal.stacks.cache import LIST, Origin, Stacks
from pulumi_fal.stacks.state import IMPORT_REFUSED, Found, Stack, StackMachine
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN, TYPE_TOKEN

from ..fakes import DEV, EIGHT, HERE, URN
from ..processes import command

PROD, TEST = "organization/shop/prod", "organization/shop/test"
S3 = "s3://bucket"


class Pulumi:
    """Answers as the command does. `holds` is what it prints of each stack, or raises."""

    def __init__(self) -> None:
        self.holds: dict[str, str | Exception] = {}
        self.lists: str | Exception | None = None
        """What it prints as the list, if not the stacks that it holds."""
        self.url: str | Exception = S3
        self.updating: set[str] = set()
        self.calls: list[tuple[str, ...]] = []
        self.backends: set[str] = set()
        self.seconds: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self, *args: str, backend: str = "", seconds: float = 30) -> str:
        self.calls.append(args)
        self.backends.add(backend)
        self.seconds.append(seconds)
        said = self._said(args)
        self.meanwhile()
        if isinstance(said, Exception):
            raise said
        return said

    @property
    def exports(self) -> int:
        return sum("export" in args for args in self.calls)

    def _said(self, args: tuple[str, ...]) -> str | Exception:
        if args[0] == "whoami":
            return json.dumps({"url": self.url}) if isinstance(self.url, str) else self.url
        if args[:2] == ("stack", "ls"):
            of = f"/{args[3]}/" if args[2] == "--project" else ""
            listed = [
                {"name": name, **({} if name in self.updating else self._last(text))}
                for name, text in self.holds.items()
                if of in name
            ]
            return json.dumps(listed) if self.lists is None else self.lists
        assert args[:3] == ("stack", "export", "--stack")
        return self.holds.get(args[3]) or StackError(f"no stack named {args[3]!r} found")

    def _last(self, held: str | Exception) -> dict[str, object]:
        count = 0 if held == EMPTY else 3
        return {"lastUpdate": "2026-02-03T08:11:22.000Z", "resourceCount": count}


@pytest.fixture
def pulumi(monkeypatch: pytest.MonkeyPatch) -> Pulumi:
    pulumi = Pulumi()
    monkeypatch.setattr(state, "pulumi", pulumi)
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)
    return pulumi


def exported(*resources: dict[str, Any] | None, creating: Sequence[str] = ()) -> str:
    operations = [{"type": "creating", "resource": {"urn": urn}} for urn in creating]
    deployment = {"resources": list(resources), "pending_operations": operations}
    return json.dumps({"version": 3, "deployment": deployment})


def provider(id_: str, type_: str = "pulumi-python") -> dict[str, Any]:
    return {"urn": "...", "type": f"pulumi:providers:{type_}", "id": id_}


def row(instance_id: str | None, token: str = TYPE_TOKEN, **others: Any) -> dict[str, Any]:
    return {"urn": URN, "type": token, **({"id": instance_id} if instance_id else {}), **others}


EMPTY = exported()

# A stack.


def test_own(pulumi: Pulumi) -> None:
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
        provider("an-id"),
        provider("another-id", "fal"),
        creating=[URN],
    )
    own = Stacks().own(HERE)
    assert own is not None
    assert (own.name, own.backend, own.ids) == (DEV, S3, frozenset({"one", "old"}))
    assert own.providers == {
        "an-id": "pulumi:providers:pulumi-python",
        "another-id": "pulumi:providers:fal",
    }
    assert own.creating == (URN,)
    assert pulumi.calls == [("whoami", "-v", "--json"), ("stack", "export", "--stack", DEV)]


def test_machines(pulumi: Pulumi) -> None:
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


MOMENTS: dict[Any, float | None] = {
    "2026-02-03T08:11:22Z": 1770106282,
    "2026-02-03T08:11:22.123456789Z": 1770106282,
    "2026-02-03T09:11:22.5+01:00": 1770106282,
    "2026-02-03T08:11:22": 1770106282,
    "yesterday": None,
    1770106282: None,
    None: None,
}


@pytest.mark.parametrize("created", MOMENTS)
def test_moments(pulumi: Pulumi, created: object) -> None:
    """Moments are read as Go prints them, on every Python; anything else counts as absent."""
    pulumi.holds[DEV] = exported(row("one", created=created))
    assert state.read(DEV).machines == (StackMachine("one", URN, created=MOMENTS[created]),)


EXPORTS = {
    "blank": (" ", None),
    "no object": ("[]", None),
    "no deployment": ('{"deployment": null}', None),
    "no resource": ('{"deployment": {"resources": [1]}}', None),
    "no type": ('{"deployment": {"resources": [{"id": "no type"}]}}', None),
    "without resources": ('{"deployment": {"version": 3}}', frozenset[str]()),
    "null": ('{"deployment": {"resources": null}}', frozenset[str]()),
}


@pytest.mark.parametrize("output, ids", EXPORTS.values(), ids=EXPORTS)
def test_exports(pulumi: Pulumi, output: str, ids: frozenset[str] | None) -> None:
    """Output that is no export is no answer, and not a stack without machines."""
    pulumi.holds[DEV] = output
    assert Stacks().ids(HERE) == ids
    assert Stacks().machines(HERE) == (None if ids is None else ())


@pytest.mark.parametrize("whole_after, exports", [(3, 4), (9, 4)], ids=["whole", "cut off"])
def test_being_written(pulumi: Pulumi, whole_after: int, exports: int) -> None:
    """An update writes the state file twice for each machine, and others read it meanwhile."""
    pulumi.holds[DEV] = StackError("`pulumi` failed: failed to load checkpoint: EOF")

    def write() -> None:
        if pulumi.exports == whole_after:
            pulumi.holds[DEV] = exported(row("one"))

    pulumi.meanwhile = write
    assert Stacks().ids(HERE) == (frozenset({"one"}) if whole_after == 3 else None)
    assert pulumi.exports == exports


def test_read_once(pulumi: Pulumi) -> None:
    """All its resources share the answer, whatever it is, until the stack is forgotten."""
    pulumi.holds |= {DEV: exported(row("one")), PROD: exported(row("other"))}
    stacks, prod = Stacks(), replace(HERE, urn=URN.replace("dev", "prod"))
    for name in ("web", "db"):
        assert stacks.ids(replace(HERE, urn=URN.replace("web", name))) == frozenset({"one"})
    nowhere = replace(HERE, urn=URN.replace("dev", "nowhere"))
    assert [stacks.ids(nowhere), stacks.ids(nowhere)] == [None, None]
    assert stacks.ids(prod) == frozenset({"other"})
    assert pulumi.exports == 3
    pulumi.holds |= {DEV: exported(row("two")), PROD: exported(row("another"))}
    stacks.forget(HERE)
    assert (stacks.ids(HERE), stacks.ids(prod)) == (frozenset({"two"}), frozenset({"other"}))
    stacks.clear()
    assert stacks.ids(prod) == frozenset({"another"})


def test_asked_before(pulumi: Pulumi) -> None:
    """What was read after a create began has the operation of that create."""
    pulumi.holds[DEV] = exported(row("one"))
    stacks, earlier = Stacks(), time.monotonic()
    stacks.ids(HERE)
    stacks.forget(HERE, asked_before=earlier)
    assert (stacks.ids(HERE), pulumi.exports) == (frozenset({"one"}), 1)
    stacks.forget(HERE, asked_before=time.monotonic())
    assert (stacks.ids(HERE), pulumi.exports) == (frozenset({"one"}), 2)


def test_forgotten_at_once(pulumi: Pulumi) -> None:
    """When the API is down, the hooks of hundreds of machines repeat their creates at once."""
    pulumi.holds[DEV] = exported(row("one"))
    pulumi.meanwhile = lambda: time.sleep(0.05)
    stacks, all_are_here = Stacks(), threading.Barrier(16)

    def read_again(number: int) -> frozenset[str] | None:
        all_are_here.wait()
        stacks.forget(HERE)
        return stacks.ids(HERE)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(read_again, range(16))) == {frozenset({"one"})}
    assert pulumi.exports < 8


# Other stacks.


def test_all(pulumi: Pulumi) -> None:
    """Stacks that can't be read are named."""
    pulumi.holds = {
        DEV: exported(row("own")),
        PROD: exported(row("a"), row("b")),
        TEST: StackError("damaged"),
        "organization/bank/dev": exported(),
    }
    stacks = Stacks()
    found = stacks.all()
    ids = {stack.name: stack.ids for stack in found.stacks}
    assert ids == {DEV: {"own"}, PROD: {"a", "b"}, "organization/bank/dev": frozenset()}
    assert {stack.backend for stack in found.stacks} == {S3}
    assert found.unread == {TEST: "damaged"}
    assert not any("organization/bank/dev" in args for args in pulumi.calls)  # the list says it
    asked = len(pulumi.calls)
    assert stacks.all() == found
    assert len(pulumi.calls) == asked


@pytest.mark.parametrize("lists", [StackError("no access"), '[{"no": "name"}]', '{"no": 1}', "[1]"])
def test_no_list(pulumi: Pulumi, lists: str | Exception) -> None:
    """An answer that is no list is none, and not a backend without stacks."""
    pulumi.lists = lists
    reason = "no access" if isinstance(lists, Exception) else "`pulumi stack ls` printed something"
    ((what, why),) = Stacks().all().unread.items()
    assert what == LIST
    assert why.startswith(reason)


def test_no_time(pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command is begun for it."""
    now = 0.0
    monkeypatch.setattr(state, "_AT_ONCE", 1)
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def pass_time() -> None:
        nonlocal now
        now += 2

    pulumi.holds = {f"organization/shop/{name}": exported(row(name)) for name in "abcd"}
    stacks = Stacks()
    assert stacks.backend == S3
    pulumi.meanwhile, pulumi.seconds = pass_time, []
    found = stacks.all(5)
    assert pulumi.seconds == [5, 3, 1]
    assert [stack.name for stack in found.stacks] == [f"organization/shop/{name}" for name in "ab"]
    assert found.unread == {
        f"organization/shop/{name}": "there was no time for it within 3 s" for name in "cd"
    }


def test_another_thread_hangs(pulumi: Pulumi) -> None:
    """A thread with less time doesn't wait for the longer command of another."""
    stacks, asks, end = Stacks(), threading.Event(), threading.Event()
    assert stacks.backend == S3

    def hang() -> None:
        asks.set()
        end.wait(60)

    pulumi.meanwhile = hang
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(stacks.all)
        asks.wait(60)
        unread = stacks.all(0.05).unread
        end.set()
        assert read.result() == Found()
    assert unread == {LIST: "`pulumi` gave no answer within 0.05 s"}


# The backend, and which stack of it is the own one.


def test_named(pulumi: Pulumi) -> None:
    """It may have moved here since."""
    pulumi.holds = {DEV: exported(row("one")), PROD: exported()}
    found = Stacks().named(HERE)
    assert [stack.backend for stack in found.stacks] == [S3, HERE.backend]
    assert pulumi.backends == {"", HERE.backend}
    assert not any(args[:2] == ("stack", "ls") for args in pulumi.calls)


def test_not_there(pulumi: Pulumi) -> None:
    """A stack that does not exist is an answer. Another failure is none."""
    stacks = Stacks()
    assert stacks.named(HERE) == Found()
    assert stacks.own(HERE) is None
    pulumi.holds[PROD] = StackError("damaged")
    elsewhere = replace(HERE, urn=URN.replace("dev", "prod"))
    assert stacks.named(elsewhere).unread == {
        PROD: "damaged",
        f"{PROD} in {HERE.backend}": "damaged",
    }
    assert stacks.own(elsewhere) is None


CLOUD = "https://api.pulumi.com"
ACME, ME = "acme/shop/dev", "me/shop/dev"


@pytest.fixture
def cloud(pulumi: Pulumi) -> Pulumi:
    """Pulumi Cloud, where two organizations have a stack of that name."""
    pulumi.url = "https://app.pulumi.com/me"
    pulumi.holds = {
        ACME: exported(row("one"), provider("acme-id")),
        ME: exported(row("two"), provider("my-id")),
        "me/shop/prod": exported(),
        "me/bank/dev": exported(),
    }
    return pulumi


def test_newer_state() -> None:
    """All stacks may have been read before one of them got its provider."""
    before, now = Stack("shop", asked=1), Stack("shop", providers={"an-id": "fal"}, asked=2)
    assert Found((now,)) | Found((before,)) == Found((now,))


def test_own_by_id(cloud: Pulumi) -> None:
    """The stacks of the project are listed once."""
    stacks = Stacks()
    for id_, name in (("acme-id", ACME), ("my-id", ME)):
        own = stacks.own(Origin(URN, id_, CLOUD))
        assert own is not None
        assert (own.name, own.backend) == (name, CLOUD)
    assert stacks.own(Origin(URN, "", CLOUD)) is None
    assert [args for args in cloud.calls if args[:2] == ("stack", "ls")] == [
        ("stack", "ls", "--project", "shop", "--json", "--fully-qualify-stack-names")
    ]


@pytest.mark.parametrize(
    "updating, creating, own",
    [
        ([ME], [], ME),
        ([ME], [ACME, ME], ME),
        ([ME, ACME], [ME], ME),
        ([ME, ACME], [ME, ACME], None),
        ([], [ACME], None),
    ],
)
def test_own_by_update(
    cloud: Pulumi, updating: list[str], creating: list[str], own: str | None
) -> None:
    """A killed update leaves a create that never ends, but does not run.

    What was read before this process began its create may have that of another stack alone.
    """
    cloud.updating, stacks, origin = set(updating), Stacks(), Origin(URN, "", CLOUD)
    cloud.holds[ACME] = exported(creating=[URN])
    if len(updating) > 1:
        assert stacks.own(origin) is None
    began = time.monotonic()
    for name in (ME, ACME):
        cloud.holds[name] = exported(creating=[URN] if name in creating else [])
    found = stacks.own(origin, began)
    assert (found.name if found else None) == own


def test_has(cloud: Pulumi) -> None:
    """A machine that no stack has is in no state, unless one can't be read."""
    stacks, origin = Stacks(), Origin(URN, "", CLOUD)
    assert [stacks.has(origin, id_) for id_ in ("one", "two", "three")] == [True, True, False]
    cloud.holds[ME] = StackError("no access")
    stacks.forget(origin)
    assert [stacks.has(origin, id_) for id_ in ("one", "two")] == [True, None]
    assert stacks.own(origin) is None


# Names and config.


def test_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """The config is read without decrypting its secrets."""
    values: Any = {"fal:endpoint": {"value": "https://x", "secret": False}, "k": {"secret": True}}
    monkeypatch.setattr(state, "pulumi", lambda *args, **others: json.dumps(values))
    assert state.config() == {"fal:endpoint": "https://x", "k": None}
    values = []
    with pytest.raises(StackError, match="not a config"):
        state.config()


# Which `pulumi` is run, and how.


class Runs:
    """Stands for subprocess.run, and keeps what was run."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {"returncode": 0, "stdout": "{}", "stderr": ""}
        self.command: list[str] = []
        self.options: dict[str, Any] = {}

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.command, self.options = command, options
        return subprocess.CompletedProcess(command, **self.answer)


@pytest.fixture
def bin_(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only folder on PATH. No `pulumi` is in it or beside this Python."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "bin"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, bin_: Path) -> Runs:
    """A `pulumi` is on PATH."""
    command(bin_ / "pulumi", "")
    runs = Runs()
    monkeypatch.setattr(subprocess, "run", runs)
    return runs


def test_how_it_runs(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in the project's folder. Its backend is the current one by default."""
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)
    assert state.ask("stack", "ls") == {}
    assert runs.command[1:] == ["stack", "ls", "--non-interactive", "--color=never"]
    assert "PULUMI_BACKEND_URL" not in runs.options["env"]
    assert runs.options["env"]["PULUMI_SKIP_UPDATE_CHECK"] == "1"
    assert runs.options["cwd"].samefile(tmp_path)
    (tmp_path / "Pulumi.yaml").touch()
    (tmp_path / "program").mkdir()
    monkeypatch.chdir(tmp_path / "program")
    state.pulumi("stack", "ls", backend="s3://other")
    assert runs.options["env"]["PULUMI_BACKEND_URL"] == "s3://other"
    assert runs.options["cwd"].samefile(tmp_path)


SECRET = "no \x1b[31mpostgres://me:s3cr3t@host/db, postgres://you@host:1/x\n"
FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "words": (
        {"returncode": 255, "stderr": "error: no stack named 'dev' found"},
        "`pulumi a b` failed: no stack named 'dev' found",
    ),
    "none": ({"returncode": 3}, "`pulumi a b` failed: exit code 3"),
    "a password": (
        {"returncode": 1, "stderr": SECRET},
        "`pulumi a b` failed: no  [31mpostgres://host/db, postgres://host:1/x",
    ),
    "no JSON": ({"stdout": "not JSON"}, "`pulumi a b` printed no JSON"),
}


@pytest.mark.parametrize("answer, says", FAILURES.values(), ids=FAILURES)
def test_failures(runs: Runs, answer: dict[str, Any], says: str) -> None:
    runs.answer |= answer
    with pytest.raises(StackError) as caught:
        state.ask("a", "b")
    assert re.sub(" +", " ", str(caught.value)) == re.sub(" +", " ", says)


def test_unusable_command(bin_: Path) -> None:
    """A command that is missing or can't be run, as one for another processor, is an error."""
    with pytest.raises(StackError, match="there is no `pulumi` command"):
        state.pulumi("version")
    file = bin_ / ("pulumi.exe" if os.name == "nt" else "pulumi")
    file.parent.mkdir()
    file.write_bytes(b"\x7fELF of another world")
    file.chmod(0o755)
    with pytest.raises(StackError, match="can't be started"):
        state.pulumi("version")


def test_killed_in_time(bin_: Path) -> None:
    """A command that hangs is killed in time, so that no create waits for it."""
    file = command(bin_ / "pulumi", "import time\ntime.sleep(60)\n")
    if os.name == "nt":  # the command is cmd itself: another process would outlive it
        file.write_text(":again\n@goto again\n")
    with pytest.raises(StackError, match=r"did not end within 0\.05 s"):
        state.pulumi("version", seconds=0.05)


def test_beside_python(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `pulumi` of a virtual environment is found although it is not activated."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    state.pulumi("version")
    assert Path(runs.command[0]).parent == tmp_path / "bin"


@pytest.mark.parametrize("name", ["Pulumi.yaml", "Pulumi.yml", "Pulumi.json"])
def test_nearest_project(tmp_path: Path, name: str) -> None:
    program = tmp_path / "project" / "src" / "program"
    program.mkdir(parents=True)
    (tmp_path / "project" / "Pulumi.yaml").touch()
    assert state.project_file(program) == tmp_path / "project" / "Pulumi.yaml"
    (program / name).touch()
    assert state.project_file(program) == program / name


# Which backend it uses.


def url_of(folder: Path) -> str:
    return f"file://{Path(os.path.realpath(folder)).as_posix()}"


@pytest.mark.parametrize(
    "says, url",
    [
        ("s3://bucket", "s3://bucket"),
        ("gs://bucket/folder/", "gs://bucket/folder"),
        ("s3://b?region=eu-west-1", "s3://b?region=eu-west-1"),
        ("postgres://me:s3cr3t@host/db", "postgres://host/db"),
        ("https://app.pulumi.com/me", "https://api.pulumi.com"),
        ("http://app.pulumi.acme.com:8080/me", "http://api.pulumi.acme.com:8080"),
        ("https://console.acme.com/app.me", ""),
        ("", ""),
        (StackError("must be set"), ""),
    ],
)
def test_used_backend(
    pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch, says: str | Exception, url: str
) -> None:
    """`pulumi whoami` says the console, at app.HOST if the API is at api.HOST, or nothing.

    A wrong address is worse than none. What is no URL in the environment is left to the command.
    """
    pulumi.url = says
    for given in ("", "acme"):
        monkeypatch.setenv("PULUMI_BACKEND_URL", given)
        stacks = Stacks()
        assert [stacks.backend, stacks.backend] == [url] * 2
    assert pulumi.calls == [("whoami", "-v", "--json")] * 2


def test_given_backend(pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment names is not asked. A console may have any address."""
    monkeypatch.setenv("PULUMI_BACKEND_URL", "postgres://me:s3cr3t@host/db")
    assert (cache.used_backend(), pulumi.calls) == ("postgres://host/db", [])
    monkeypatch.delenv("PULUMI_BACKEND_URL")
    monkeypatch.setenv("PULUMI_CONSOLE_DOMAIN", "app.acme.com")
    pulumi.url = "https://app.acme.com/me"
    assert cache.used_backend() == ""


@pytest.mark.parametrize("says", ["{}", "null"])
def test_no_url(monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    """It is not taken for the name of a backend."""
    monkeypatch.setattr(state, "pulumi", lambda *args, **others: says)
    with pytest.raises(StackError, match="did not print a backend's URL"):
        cache.used_backend()


def test_one_folder(tmp_path: Path) -> None:
    """Links, dots, slashes and options make no other backend of a folder."""
    (tmp_path / "states").mkdir()
    paths = ["states/", "project/../states", "states?metadata=skip"]
    if os.name != "nt":  # not everybody may make links on Windows
        (tmp_path / "link").symlink_to(tmp_path / "states")
        paths.append("link")
    for path in paths:
        for scheme in ("file://", "file:", "FILE://"):
            assert cache.place(f"{scheme}{tmp_path}/{path}") == url_of(tmp_path / "states")


@pytest.mark.parametrize("is_named", [True, False], ids=["an account", "a user id alone"])
def test_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool) -> None:
    """It is the account's folder for `pulumi`, and $HOME only where the account has no name."""
    home = Path.home()
    if os.name != "nt":
        import pwd

        account = pwd.getpwuid(os.getuid())
        home = Path(account.pw_dir) if is_named else tmp_path
        answers = {os.getuid(): account} if is_named else {}
        monkeypatch.setattr(pwd, "getpwuid", answers.__getitem__)
    monkeypatch.setenv("HOME", str(tmp_path))
    for url, path in {"~": "", "~/": "", "~/states": "/states", "~/a/../b": "/b"}.items():
        assert cache.place(f"file://{url}") == f"{url_of(home)}{path}"


def test_relative_urls(pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there are no stacks, the command was run elsewhere, and the backend is unknown."""
    pulumi.url = "file://./states"
    (tmp_path / "Pulumi.yaml").touch()
    (tmp_path / "program").mkdir()
    monkeypatch.chdir(tmp_path / "program")
    assert cache.used_backend() == ""
    (tmp_path / "states" / ".pulumi").mkdir(parents=True)
    assert cache.used_backend() == url_of(tmp_path / "states")
