"""What set-up promises: a lock for everybody, and a `pulumi` wherever one can be had."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import yaml

from pulumi_fal.cli.doctor import NEWEST_SDK, OLDEST_SDK

from ..commands import POSIX_SHELL
from ..docs import ROOT, pages

CLI = ROOT / "tools" / "pulumi-cli"
LOCK = (ROOT / "requirements" / "dev.txt").read_text()
VERSION = "v3.259.0"


@pytest.fixture
def installer() -> Any:
    return load(CLI / "install.py")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installer: Any) -> Path:
    """A machine with nothing on it: an empty PATH, an empty cache, and no network."""
    for folder in ("bin", "venv"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def no_network(url: str) -> bytes:
        raise installer.Unavailable(f"{url} can't be had")

    monkeypatch.setattr(installer, "download", no_network)
    return tmp_path


def program(path: Path, script: str) -> Path:
    if os.name == "nt":
        pytest.skip("a shell script does not run on Windows")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# The lock and the package


def test_every_locked_package_is_pinned_with_hashes() -> None:
    """Every locked package has hashes, since pip refuses the whole file otherwise."""
    packages = re.split(r"(?m)^(?=[a-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", LOCK))[1:]
    assert len(packages) > 20
    for package in packages:
        assert re.match(r"[a-z0-9._-]+==\S+ ", package)
        assert "--hash=sha256:" in package


def test_the_lock_names_no_package_index() -> None:
    """The lock names no index, so whoever installs it decides where packages come from."""
    assert "://" not in LOCK
    assert not re.search(r"--(extra-)?index-url|--find-links", LOCK)


def test_set_up_itself_is_locked() -> None:
    """Everything that set-up installs is in the lock."""
    locked = set(re.findall(r"(?m)^([a-z0-9._-]+)==", LOCK))
    assert {"editables", "hatchling", "pulumi", "requests", "uv"} <= locked


def test_the_package_tells_pulumi_that_it_has_no_plugin_to_download() -> None:
    """The package says that it has no plugin, or `pulumi` would look for one and fail."""
    plugin = resources.files("pulumi_fal") / "pulumi-plugin.json"
    assert json.loads(plugin.read_text()) == {"resource": False}


def test_the_package_says_that_it_is_typed() -> None:
    """The package has the marker that tells type checkers to read it."""
    assert (resources.files("pulumi_fal") / "py.typed").is_file()


def test_every_place_names_the_same_pulumi(installer: Any) -> None:
    """The installer, the Go module that it builds, and CI on Windows, which has no installer."""
    versions = re.findall(
        r"github\.com/pulumi/pulumi/(?:pkg|sdk)/v3 (\S+)", (CLI / "go.mod").read_text()
    )
    assert versions == [installer.VERSION] * 2
    (action,) = [
        step
        for step in workflow("ci")["jobs"]["windows"]["steps"]
        if step.get("uses", "").startswith("pulumi/actions@")
    ]
    assert f"v{action['with']['pulumi-version']}" == installer.VERSION


# Checks and releases


def make(*arguments: str) -> list[str]:
    """The commands that make would run."""
    command = ["make", "--dry-run", "--no-print-directory", "VENV=.venv", *arguments]
    said = subprocess.check_output(command, text=True, cwd=ROOT)
    return re.sub(r"\\\n\s*", "", said).splitlines()


def workflow(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


@pytest.fixture
def release() -> Any:
    return load(ROOT / "tools" / "release.py")


@POSIX_SHELL
def test_the_fast_tests_come_first_and_alone_have_coverage() -> None:
    """A mistake shows early, and no engine is slowed down."""
    commands = make("test")
    fast, slow = [line for line in commands if "-m pytest" in line]
    assert fast.split()[-2:] == ["tests/unit", "tests/plugin"]
    assert {"-x", "--cov"} <= set(fast.split())
    assert slow.split()[-2:] == ["tests/simulation", "tests/e2e"]
    assert "--cov" not in slow
    assert commands.index(".venv/bin/ruff check .") < commands.index(fast)


@POSIX_SHELL
def test_the_hooks_before_a_commit_are_the_commands_of_make_lint() -> None:
    """The hooks use what is installed, so a commit downloads nothing."""
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    hooks = [hook["entry"] for repo in repos for hook in repo["hooks"]]
    assert hooks == [line for line in make("lint") if re.match(r"\S+/bin/(?!python tools/)", line)]
    assert {hook["language"] for repo in repos for hook in repo["hooks"]} == {"system"}


def test_every_place_names_the_same_pythons_and_the_same_oldest_sdk() -> None:
    """The metadata, the matrix of CI, the sessions of nox, the documentation, and the doctor."""
    project = (ROOT / "pyproject.toml").read_text()
    sessions = load(ROOT / "noxfile.py")
    pythons = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    assert list(sessions.PYTHONS) == pythons
    assert workflow("ci")["jobs"]["test"]["strategy"]["matrix"]["python"] == pythons
    said = [re.findall(r"3\.10 to (3\.\d+)", page.read_text(encoding="utf-8")) for page in pages()]
    assert {version for versions in said for version in versions} == {pythons[-1]}
    oldest = re.search(r'"pulumi>=([\d.]+),', project)
    assert oldest is not None
    assert f"{oldest[1]}.0" == sessions.OLDEST_SDK
    assert oldest[1] == "{}.{}".format(*OLDEST_SDK)
    locked = re.search(r"(?m)^pulumi==(\d+\.\d+)\.", LOCK)
    assert locked is not None
    assert locked[1] == "{}.{}".format(*NEWEST_SDK)


def test_every_place_names_the_same_repository() -> None:
    """The metadata's links lead into one repository, and the Go SDK's path does too."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = re.search(r"(?ms)^\[project\.urls\]\n(.*?)\n\n", project)
    assert table is not None
    urls = dict(re.findall(r'(?m)^(\w+) = "(.+)"$', table[1]))
    repository = urls["Repository"]
    assert urls.keys() == {"Repository", "Documentation", "Changelog", "Issues"}
    assert urls["Issues"] == f"{repository}/issues"
    for name in ("Documentation", "Changelog"):
        assert (ROOT / urls[name].removeprefix(f"{repository}/blob/main/")).is_file(), name
    go = json.loads((resources.files("pulumi_fal.native") / "schema.json").read_text())["language"]
    assert f"https://{go['go']['importBasePath']}".startswith(f"{repository}/")
    for page in pages():
        # Pulumi itself would look for the plugin there; the page says that it is not ours.
        text = page.read_text(encoding="utf-8").replace("github.com/pulumi/pulumi-fal", "")
        addresses = re.findall(r"github\.com/[\w.-]+/pulumi-fal\b", text)
        assert {f"https://{address}" for address in addresses} <= {repository}, page


def test_a_release_publishes_the_files_that_were_checked() -> None:
    """One job builds; the job that may publish runs no code of this repository."""
    jobs = workflow("release")["jobs"]
    runs = {name: [step.get("run", "") for step in job["steps"]] for name, job in jobs.items()}
    assert "nox --session dist installed plugin" in runs["build"]
    assert "dist/* dist-plugin/*" in runs["announce"][-1]
    assert [job.get("needs") for job in jobs.values()] == [None, "build", "publish"]
    assert not any(runs["publish"])
    assert [name for name, job in jobs.items() if "id-token" in job["permissions"]] == ["publish"]
    uses = [step["uses"].partition("@")[0] for step in jobs["publish"]["steps"]]
    assert uses[0] == "actions/download-artifact"
    assert "pypa/gh-action-pypi-publish" in uses


CHANGELOG = """\
# Changelog

## [1.2.3] - 2026-01-31

### Added

- A thing.

## [1.2.2] - 2026-01-30

- An older thing.
"""


def test_a_releases_text_is_its_section_of_the_changelog(release: Any) -> None:
    """The text of a release ends where the section of the version before begins."""
    text = release.notes("v1.2.3", '__version__ = "1.2.3"\n', CHANGELOG)
    assert text == "### Added\n\n- A thing.\n"


@pytest.mark.parametrize(
    "tag, version, changelog, reason",
    [
        ("v1.2.4", "1.2.3", CHANGELOG, r"The tag is v1\.2\.4, but .*_version\.py has 1\.2\.3"),
        ("1.2.3", "1.2.3", CHANGELOG, r"The tag is 1\.2\.3"),
        ("v1.2.0", "1.2.0", CHANGELOG, r"CHANGELOG\.md says nothing of 1\.2\.0"),
        ("v1.2.3", "1.2.3", "## [1.2.3] - 2026-01-31\n\n## [1.2.2]", "CHANGELOG"),
        ("v1.2.3", "1.2.3", CHANGELOG.replace(" - 2026-01-31", ""), "CHANGELOG"),
    ],
)
def test_a_tag_that_does_not_fit_releases_nothing(
    release: Any, tag: str, version: str, changelog: str, reason: str
) -> None:
    """A wrong version can't be taken back once it is published."""
    with pytest.raises(release.NotReady, match=reason):
        release.notes(tag, f'__version__ = "{version}"\n', changelog)


def test_a_bug_report_has_the_doctors_output() -> None:
    """The form asks for the doctor's output, and can't be sent without it."""
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text())
    (doctor,) = [field for field in form["body"] if field.get("id") == "doctor"]
    assert "`pulumi-fal doctor`" in doctor["attributes"]["label"]
    assert doctor["validations"]["required"]


# Where `pulumi` comes from


def test_a_pulumi_with_its_language_host_on_path_is_taken(machine: Path, installer: Any) -> None:
    """A `pulumi` on PATH is used if its language host is there as well."""
    pulumi = program(machine / "bin" / "pulumi", "echo v3.200.0")
    program(machine / "bin" / "pulumi-language-python", "exit 0")
    assert installer.get_pulumi(machine / "venv") == pulumi


def test_a_pulumi_without_its_language_host_is_passed_over(machine: Path, installer: Any) -> None:
    """A `pulumi` without its language host can't run Python programs."""
    program(machine / "bin" / "pulumi", "echo v3.200.0")
    cached = program(installer.cache_folder() / "pulumi", f"echo {VERSION}")
    assert installer.get_pulumi(machine / "venv") == cached


def test_a_pulumi_that_does_not_answer_is_passed_over(machine: Path, installer: Any) -> None:
    """A `pulumi` that doesn't tell its version is not used."""
    program(machine / "bin" / "pulumi", "exit 1")
    program(machine / "bin" / "pulumi-language-python", "exit 0")
    cached = program(installer.cache_folder() / "pulumi", f"echo {VERSION}")
    assert installer.get_pulumi(machine / "venv") == cached


def test_our_own_pulumi_is_never_taken_for_the_machines(
    machine: Path, installer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's own `pulumi` is never taken for the machine's, which it would start."""
    monkeypatch.setenv("PATH", str(machine / "venv"))
    program(machine / "venv" / "pulumi", "echo v3.200.0")
    program(machine / "venv" / "pulumi-language-python", "exit 0")
    cached = program(installer.cache_folder() / "pulumi", f"echo {VERSION}")
    assert installer.get_pulumi(machine / "venv") == cached


def test_a_cached_build_gets_this_clones_language_host(machine: Path, installer: Any) -> None:
    """A build from the cache gets the language host of this clone."""
    cached = program(installer.cache_folder() / "pulumi", f"echo {VERSION}")
    program(cached.with_name("pulumi-language-python"), "echo an older one")
    installer.get_pulumi(machine / "venv")
    host = cached.with_name("pulumi-language-python")
    assert host.read_bytes() == (CLI / "pulumi-language-python").read_bytes()
    assert os.access(host, os.X_OK)


def test_a_cached_bundle_keeps_the_official_language_host(machine: Path, installer: Any) -> None:
    """A bundle from the cache keeps the language host that it came with."""
    cached = program(installer.cache_folder() / "pulumi", f"echo {VERSION}")
    official = program(cached.with_name("pulumi-language-python"), "echo official")
    program(cached.with_name("pulumi-language-go"), "exit 0")
    installer.get_pulumi(machine / "venv")
    assert "official" in official.read_text()


def test_a_broken_cache_is_replaced(
    machine: Path, installer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cached `pulumi` that doesn't run is replaced."""
    broken = program(installer.cache_folder() / "pulumi", "exit 1")

    def download(folder: Path) -> None:
        with installer.filling(folder) as new:
            program(new / "pulumi", f"echo {VERSION}")

    monkeypatch.setattr(installer, "fetch_bundle", download)
    assert installer.get_pulumi(machine / "venv") == broken
    assert installer.version_of(broken) == VERSION


def test_without_bundle_and_go_one_sentence_says_what_to_install(machine: Path) -> None:
    """Without bundle and Go, one sentence says what to install."""
    result = subprocess.run(
        [sys.executable, CLI / "install.py", machine / "venv"],
        capture_output=True,
        text=True,
        check=False,
        env={
            "SYSTEMROOT": os.environ.get("SYSTEMROOT", ""),  # without it, Windows has no sockets
            "PATH": str(machine / "bin"),
            "XDG_CACHE_HOME": str(machine / "cache"),
            "https_proxy": "http://127.0.0.1:9",
        },
    )
    assert result.returncode == 1
    assert "Go is not on PATH" in result.stderr
    assert re.search(
        r"Install the Pulumi CLI \(.*\) or Go 1\.25\.11 or later \(.*\)", result.stderr
    )
    assert "Traceback" not in result.stderr
    assert list((machine / "venv").iterdir()) == []


def test_a_build_says_at_once_how_long_it_takes_and_then_that_it_goes_on(
    machine: Path,
    installer: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever waits for minutes must see that they are expected, in a log file as well."""
    monkeypatch.setattr(installer, "SECONDS_BETWEEN_SIGNS", 0.01)
    said = []

    def slow_build(folder: Path) -> None:
        said.append(capsys.readouterr().out)
        end = time.monotonic() + 10
        while "so far" not in said[-1] and time.monotonic() < end:
            time.sleep(0.01)
            said.append(capsys.readouterr().out)
        with installer.filling(folder) as new:
            program(new / "pulumi", f"echo {VERSION}")

    monkeypatch.setattr(installer, "build", slow_build)
    installer.get_pulumi(machine / "venv")
    what = f"pulumi: building {VERSION} from its Go modules"
    assert said[0].endswith(f"{what}: 3 to 8 minutes, once per machine ...\n")
    assert re.match(rf"{what}: \d+ s so far\n", said[-1])
    assert re.search(rf"{what}: [\d.]+ s\n$", capsys.readouterr().out)


# What is done with it


def bundle(names: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("pulumi/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return file.getvalue()


def test_the_bundle_is_unpacked_flat_and_nothing_gets_outside(
    tmp_path: Path, installer: Any
) -> None:
    """The bundle's files are unpacked into one folder, and none outside it."""
    folder = tmp_path / "inside" / "folder"
    folder.mkdir(parents=True)
    installer.unpack(
        bundle({"pulumi/pulumi": b"1", "../../evil": b"2", "/abs/evil2": b"3"}), folder
    )
    assert {path.name for path in folder.iterdir()} == {"pulumi", "evil", "evil2"}
    assert not (tmp_path / "evil").exists()
    assert os.access(folder / "pulumi", os.X_OK)


def test_a_bundle_is_used_only_if_its_published_checksum_is_right(installer: Any) -> None:
    """A bundle whose checksum is not the published one is not used."""
    good = hashlib.sha256(b"content").hexdigest()
    assert installer.checked(b"content", "p.tar.gz", f"{good}  p.tar.gz\n") == b"content"
    for checksums in (f"{'0' * 64}  p.tar.gz\n", f"{good}  another.tar.gz\n", ""):
        with pytest.raises(installer.Unavailable, match=r"p\.tar\.gz is not what"):
            installer.checked(b"content", "p.tar.gz", checksums)


def test_a_build_that_does_not_run_never_reaches_the_cache(tmp_path: Path, installer: Any) -> None:
    """A build that doesn't run never gets into the cache."""
    folder = tmp_path / "cache" / VERSION
    with (
        pytest.raises(installer.Unavailable, match="doesn't run"),
        installer.filling(folder) as new,
    ):
        program(new / "pulumi", "exit 1")
    assert list((tmp_path / "cache").iterdir()) == []


def test_of_two_builds_at_once_either_may_win(tmp_path: Path, installer: Any) -> None:
    """Two builds at the same time leave one whole `pulumi` in the cache."""
    folder = tmp_path / "cache" / VERSION
    with installer.filling(folder) as slow:
        program(slow / "pulumi", "echo slow")
        with installer.filling(folder) as quick:
            program(quick / "pulumi", "echo quick")
    assert installer.version_of(folder / "pulumi") in ("slow", "quick")
    assert [path.name for path in folder.parent.iterdir()] == [VERSION]


def test_pulumi_runs_with_the_environments_python_first_on_path(
    tmp_path: Path, installer: Any
) -> None:
    """`pulumi` finds the environment's Python first, even in a folder with a blank in its name."""
    own = tmp_path / "my clone" / "bin"
    own.mkdir(parents=True)
    pulumi = program(tmp_path / "the cache" / "pulumi", 'echo "$PATH" "$@"')
    installer.install(pulumi, own)
    result = subprocess.run(
        [own / "pulumi", "a b"], capture_output=True, text=True, check=True, env={"PATH": "/rest"}
    )
    assert result.stdout == f"{own}:{pulumi.parent}:/rest a b\n"


def test_pulumis_own_language_hosts_on_path_come_before_ours(
    machine: Path, installer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are put beside `pulumi`, which would warn of them otherwise. Ours adds what they lack.

    Without them on PATH, the next run takes ours again.
    """
    hosts, own, cache = machine / "hosts", machine / "venv" / "bin", installer.cache_folder()
    own.mkdir(parents=True)
    program(cache / "pulumi", f"echo {VERSION}")
    program(cache / "pulumi-language-python-exec", "echo the SDK's")
    hosts.mkdir()
    (hosts / "pulumi-language-python").write_bytes(b"\x7fELF")
    (hosts / "pulumi-language-nodejs").write_bytes(b"\x7fELF")
    monkeypatch.setattr(sys, "argv", ["install.py", str(own)])
    monkeypatch.setenv("PATH", f"{hosts}:{os.environ['PATH']}")
    installer.main()
    folder = machine / "venv" / "pulumi-cli"
    assert f"PATH={own}:{folder}:" in (own / "pulumi").read_text()
    assert {path.name: path.resolve().parent for path in folder.iterdir()} == {
        "pulumi": folder,
        "pulumi-language-python": hosts,
        "pulumi-language-nodejs": hosts,
        "pulumi-language-python-exec": cache,
    }
    assert installer.version_of(own / "pulumi") == VERSION
    monkeypatch.setenv("PATH", os.defpath)
    installer.main()
    assert f"PATH={own}:{cache}:" in (own / "pulumi").read_text()


def test_a_bundle_keeps_its_own_language_hosts(
    machine: Path, installer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hosts are of its own version."""
    own = machine / "venv" / "bin"
    own.mkdir(parents=True)
    bundle = program(machine / "bin" / "pulumi", "echo v3.200.0")
    for host in ("pulumi-language-python", "pulumi-language-go"):
        bundle.with_name(host).write_bytes(b"\x7fELF")
    monkeypatch.setattr(sys, "argv", ["install.py", str(own)])
    monkeypatch.setenv("PATH", f"{bundle.parent}:{os.environ['PATH']}")
    installer.main()
    assert not (machine / "venv" / "pulumi-cli").exists()


# The language host


def test_the_language_host_installs_the_requirements_of_a_plugin_that_is_a_folder(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes the environment that is named, and what goes wrong there reaches the engine."""
    makes = '[ $2 = venv ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && exit 0'
    program(tmp_path / "bin" / "python3", f"{makes}\necho $*; echo no index >&2; exit $CODE")
    (tmp_path / "requirements.txt").touch()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def said(code: int, context: Any = None, **options: str) -> str:
        monkeypatch.setenv("CODE", str(code))
        request = host.language_pb2.InstallDependenciesRequest(info=info(host, tmp_path, **options))
        answers = host.LanguageHost("").InstallDependencies(request, context)
        return b"".join(answer.stdout + answer.stderr for answer in answers).decode()

    pip = "-m pip install --quiet --disable-pip-version-check -r requirements.txt\n"
    assert said(0, virtualenv="venv") == f"{pip}no index\n"
    assert said(0) == ""
    context = Aborts()
    said(3, context, virtualenv="venv")
    assert context.text.endswith("-r requirements.txt' exited with code 3")


class Aborts:
    """A call that the language host ends with an error."""

    text = ""

    def abort(self, _: object, text: str) -> None:
        self.text = text


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").touch()
    return tmp_path


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    copy = tmp_path_factory.mktemp("host") / "language_host.py"
    shutil.copy(CLI / "pulumi-language-python", copy)
    # It imports the SDK's protocol without the SDK, which other tests in this process need whole.
    with mock.patch.dict(sys.modules):
        return load(copy)


def info(host: Any, root: Path, **options: str) -> Any:
    program = host.language_pb2.ProgramInfo(root_directory=str(root))
    program.options.update(options)
    return program


def test_the_virtualenv_option_counts_from_the_projects_root(host: Any, project: Path) -> None:
    """The `virtualenv` option is relative to the project's root."""
    python, env = host.python_of(info(host, project, virtualenv="venv"))
    assert python == str(project / "venv" / "bin" / "python")
    assert env["VIRTUAL_ENV"] == str(project / "venv")
    assert env["PATH"].startswith(f"{project / 'venv' / 'bin'}{os.pathsep}")


def test_a_virtualenv_that_is_not_there_is_named_with_the_way_to_make_it(
    host: Any, project: Path
) -> None:
    """A missing virtual environment is named, with the command that makes it."""
    with pytest.raises(host.ProgramError, match=r"'nowhere'.*python3 -m venv .*nowhere"):
        host.python_of(info(host, project, virtualenv="nowhere"))


def test_without_the_option_the_python_on_path_runs_the_program(
    host: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the `virtualenv` option, the Python on PATH runs the program."""
    monkeypatch.delenv("PULUMI_PYTHON_CMD", raising=False)
    monkeypatch.setenv("PATH", str(project / "bin"))
    assert host.python_of(info(host, project))[0] == sys.executable
    python3 = program(project / "bin" / "python3", "exit 0")
    assert host.python_of(info(host, project))[0] == str(python3)
