"""Which stack a process works for, and what its state holds, by a `pulumi` that is a script."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pulumi_fal import stack
from pulumi_fal.errors import StackError
from pulumi_fal.journal import Origin

URN = "urn:pulumi:dev::shop::pulumi-python:dynamic/fal:ComputeInstance::web"
HERE = Origin(URN, "organization", "file:///here")
Pulumi = Callable[..., Path]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No CLI has started this process, and none is on PATH or beside this Python."""
    monkeypatch.setattr(stack, "_cli_process", lambda: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)


@pytest.fixture
def pulumi(tmp_path: Path) -> Pulumi:
    """Puts a `pulumi` on PATH that prints something, and keeps how it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def put(output: str, *, status: int = 0, words: str = "") -> Path:
        (tmp_path / "output").write_text(output)
        script = folder / "pulumi"
        script.write_text(
            "#!/bin/sh\n"
            f'echo "$PULUMI_BACKEND_URL $PULUMI_SKIP_UPDATE_CHECK $*" > {tmp_path}/called\n'
            f'while read -r line; do echo "$line"; done < {tmp_path}/output\n'
            f'echo "{words}" >&2\n'
            f"exit {status}\n"
        )
        script.chmod(0o755)
        return tmp_path / "called"

    return put


def exported(*resources: dict[str, Any] | None) -> str:
    return json.dumps({"version": 3, "deployment": {"resources": list(resources)}}) + "\n"


def row(instance_id: str | None, token: str = stack.TYPE_TOKEN, **others: Any) -> dict[str, Any]:
    return {"urn": URN, "type": token, **({"id": instance_id} if instance_id else {}), **others}


# The state.


def test_the_ids_of_all_machines_in_state_are_told(pulumi: Pulumi) -> None:
    """Those marked for deletion too; no other types, nothing that is only read, nothing unmade."""
    called = pulumi(
        exported(
            row("one"),
            row("old", delete=True),
            row(None),
            row("read", external=True),
            row("other", "aws:ec2:Instance"),
            {"urn": URN, "type": "pulumi:pulumi:Stack"},
        )
    )
    assert stack.ids_in_state(HERE) == frozenset({"one", "old"})
    assert called.read_text() == (
        "file:///here 1 stack export --stack organization/shop/dev --non-interactive "
        "--color=never\n"
    )


@pytest.mark.parametrize("resources", ["", ', "resources": null', ', "resources": []'])
def test_a_stack_without_resources_has_none(pulumi: Pulumi, resources: str) -> None:
    """Which is an answer."""
    pulumi(f'{{"deployment": {{"version": 3{resources}}}}}\n')
    assert stack.ids_in_state(HERE) == frozenset()


@pytest.mark.parametrize(
    "output",
    [
        "",
        "not JSON\n",
        "[]\n",
        "{}\n",
        '{"deployment": null}\n',
        '{"deployment": {"resources": [1]}}\n',
        '{"deployment": {"resources": [{"id": "no type"}]}}\n',
    ],
)
def test_what_is_no_export_is_no_answer(pulumi: Pulumi, output: str) -> None:
    """And not a stack without machines."""
    pulumi(output)
    assert stack.ids_in_state(HERE) is None


def test_a_command_that_fails_is_no_answer(pulumi: Pulumi) -> None:
    """Even if it prints a stack."""
    pulumi(exported(row("one")), status=255, words="error: no stack named 'dev' found")
    assert stack.ids_in_state(HERE) is None
    with pytest.raises(StackError, match="failed: no stack named 'dev' found"):
        stack.machines("organization/shop/dev")


def test_a_command_that_fails_without_a_word_is_reported_too(pulumi: Pulumi) -> None:
    """By its exit code."""
    pulumi("", status=3)
    with pytest.raises(StackError, match="exit code 3"):
        stack.machines("organization/shop/dev")


def test_without_a_command_there_is_no_answer() -> None:
    """Neither on PATH nor beside this Python."""
    assert stack.ids_in_state(HERE) is None
    with pytest.raises(StackError, match="there is no `pulumi` command"):
        stack.machines("organization/shop/dev")


def test_a_command_that_can_not_run_is_no_answer(pulumi: Pulumi, tmp_path: Path) -> None:
    """As one for another kind of machine."""
    pulumi("")
    (tmp_path / "bin" / "pulumi").write_bytes(b"\x7fELF of another world")
    assert stack.ids_in_state(HERE) is None
    with pytest.raises(StackError, match="can't be started"):
        stack.machines("organization/shop/dev")


def test_a_command_that_does_not_end_is_no_answer(
    pulumi: Pulumi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A create must not wait for ever."""
    pulumi("")
    (tmp_path / "bin" / "pulumi").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr(stack, "_TIMEOUT", 0.05)
    assert stack.ids_in_state(HERE) is None
    with pytest.raises(StackError, match="did not end"):
        stack.machines("organization/shop/dev")


@pytest.mark.parametrize(
    "origin", [replace(HERE, urn=""), replace(HERE, organization=""), replace(HERE, backend="")]
)
def test_a_stack_that_is_not_known_for_sure_is_not_asked(pulumi: Pulumi, origin: Origin) -> None:
    """The answer could be another one's."""
    called = pulumi(exported(row("one")))
    assert stack.ids_in_state(origin) is None
    assert not called.exists()


def test_a_command_beside_this_python_serves_as_well(
    pulumi: Pulumi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment that nobody activated."""
    pulumi(exported(row("one")))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert stack.ids_in_state(HERE) is None
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert stack.ids_in_state(HERE) == frozenset({"one"})


def test_the_command_that_started_this_process_comes_first(
    pulumi: Pulumi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version on PATH may not know the state's format."""
    pulumi(exported(row("one")))
    process, elsewhere = tmp_path / "process", tmp_path / "elsewhere"
    process.mkdir()
    (tmp_path / "bin").rename(elsewhere)
    (process / "exe").symlink_to(elsewhere / "pulumi")
    monkeypatch.setattr(stack, "_cli_process", lambda: process)
    assert stack.ids_in_state(HERE) == frozenset({"one"})


def test_machines_are_told_with_their_urns(pulumi: Pulumi) -> None:
    """And the backend is the one that the command uses here, unless one is given."""
    called = pulumi(exported(row("one")))
    assert stack.machines("organization/shop/dev") == [stack.Held("one", URN)]
    assert called.read_text().startswith(" 1 stack export")


# The backend.


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "src" / "program"
    folder.mkdir(parents=True)
    return folder


def login(home: Path, url: str) -> None:
    home.mkdir(exist_ok=True)
    (home / "credentials.json").write_text(json.dumps({"current": url}))


def test_the_backend_is_the_environments_else_the_projects_else_the_logins(
    program: Path, tmp_path: Path
) -> None:
    """As the CLI itself looks for it."""
    environ = {"PULUMI_HOME": str(tmp_path / "home")}
    assert stack.backend(environ, program) == ""
    login(tmp_path / "home", "https://api.pulumi.com/")
    assert stack.backend(environ, program) == "https://api.pulumi.com"
    (tmp_path / "project" / "Pulumi.yaml").write_text("backend:\n  url: s3://project\n")
    assert stack.backend(environ, program) == "s3://project"
    environ["PULUMI_BACKEND_URL"] = "gs://environment"
    assert stack.backend(environ, program) == "gs://environment"


def test_credentials_have_a_path_of_their_own(program: Path, tmp_path: Path) -> None:
    """It counts before PULUMI_HOME."""
    login(tmp_path / "home", "s3://home")
    login(tmp_path / "credentials", "s3://credentials")
    environ = {
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_CREDENTIALS_PATH": str(tmp_path / "credentials"),
    }
    assert stack.backend(environ, program) == "s3://credentials"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"current": null}', "no JSON"])
def test_credentials_that_name_no_backend_leave_it_unknown(
    program: Path, tmp_path: Path, text: str
) -> None:
    """And raise nothing."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "credentials.json").write_text(text)
    assert stack.backend({"PULUMI_HOME": str(tmp_path / "home")}, program) == ""


@pytest.mark.parametrize("name", ["Pulumi.yaml", "Pulumi.yml", "Pulumi.json"])
def test_the_nearest_project_counts(program: Path, tmp_path: Path, name: str) -> None:
    """A project within another one's folder is its own, with or without a backend."""
    environ = {"PULUMI_HOME": str(tmp_path / "home")}
    (tmp_path / "project" / "Pulumi.yaml").write_text("backend: {url: s3://outer}\n")
    assert stack.project_file(program) == tmp_path / "project" / "Pulumi.yaml"
    (program / name).write_text('{"name": "inner"}')
    assert stack.project_file(program) == program / name
    assert stack.backend(environ, program) == ""
    (program / name).write_text('{"backend": {"url": "s3://inner"}}')
    assert stack.backend(environ, program) == "s3://inner"


def test_one_folder_is_one_backend_however_it_is_written(program: Path, tmp_path: Path) -> None:
    """Links, dots and slashes make no other stack of it."""
    (tmp_path / "states").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "states")
    expected = f"file://{os.path.realpath(tmp_path / 'states')}"
    for path in ("states", "states/", "link", "project/../states"):
        url = {"PULUMI_BACKEND_URL": f"file://{tmp_path}/{path}"}
        assert stack.backend(url, program) == expected


def test_a_home_folder_is_meant_by_a_tilde(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pulumi login --local` writes it so."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert stack.backend({"PULUMI_BACKEND_URL": "file://~"}, program) == (
        f"file://{os.path.realpath(tmp_path)}"
    )


def test_a_relative_url_counts_from_where_the_cli_runs(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is unknown where that can't be seen: the program's folder may be another one."""
    environ = {"PULUMI_BACKEND_URL": "file://./states"}
    assert stack.backend(environ, program) == ""
    process = tmp_path / "process"
    process.mkdir()
    (process / "cwd").symlink_to(tmp_path / "project")
    monkeypatch.setattr(stack, "_cli_process", lambda: process)
    assert stack.backend(environ, program) == (
        f"file://{os.path.realpath(tmp_path / 'project' / 'states')}"
    )


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
    """There, and where the backend is unknown, it stays unknown."""
    assert stack.own_organization(url) == organization


# The CLI's process.


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int, str], None]:
    """A /proc in which this process is a child of number 30."""
    monkeypatch.undo()
    monkeypatch.setattr(os, "getppid", lambda: 30)
    folder = tmp_path / "proc"
    folder.mkdir()
    monkeypatch.setattr(
        stack, "Path", lambda *parts: folder if parts == ("/proc",) else Path(*parts)
    )

    def put(pid: int, parent: int, exe: str) -> None:
        (folder / str(pid)).mkdir()
        (folder / str(pid) / "stat").write_text(f"{pid} (a ) b (c) S {parent} 1 1 0")
        (folder / str(pid) / "exe").symlink_to(exe)

    return put


def test_the_cli_is_found_among_the_parents(
    proc: Callable[[int, int, str], None], tmp_path: Path
) -> None:
    """A shell and a script may stand between, and names may hold parentheses."""
    proc(30, 20, "/bin/sh")
    proc(20, 10, "/opt/pulumi/bin/pulumi")
    assert stack._cli_process() == tmp_path / "proc" / "20"
    assert stack._cli() == "/opt/pulumi/bin/pulumi"


def test_a_process_that_no_cli_started_has_none(proc: Callable[[int, int, str], None]) -> None:
    """The first of all processes is the end."""
    proc(30, 1, "/bin/sh")
    assert stack._cli_process() is None


def test_without_a_proc_there_is_none(proc: Callable[[int, int, str], None]) -> None:
    """As on other systems than Linux."""
    assert stack._cli_process() is None


# Names.


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
    """With or without parents."""
    assert stack.is_ours(urn) is ours


def test_all_stacks_of_the_backend_are_told(pulumi: Pulumi) -> None:
    """By their full names, in order."""
    pulumi('[{"name": "organization/shop/prod"}, {"name": "organization/bank/dev"}]\n')
    assert stack.names() == ["organization/bank/dev", "organization/shop/prod"]
    pulumi('{"name": "no list"}\n')
    with pytest.raises(StackError, match="not a list"):
        stack.names()


def test_the_config_is_told_without_its_secrets(pulumi: Pulumi) -> None:
    """A secret's value is not asked for."""
    values = {"fal:endpoint": {"value": "https://x", "secret": False}, "k": {"secret": True}}
    pulumi(f"{json.dumps(values)}\n")
    assert stack.config() == {"fal:endpoint": "https://x", "k": None}
    pulumi("[]\n")
    with pytest.raises(StackError, match="not a config"):
        stack.config()
