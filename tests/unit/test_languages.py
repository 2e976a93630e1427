"""What `make languages` runs, as far as it can be checked without building anything."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.languages import commands, descriptions, languages
from tools.languages.project import Project

from pulumi_fal.emulator.server import EmulatorServer

from ..commands import command
from ..docs import ROOT, schema_examples
from .test_tooling import CLI, load

LANGUAGES = ROOT / "tools" / "languages"
SAY = [sys.executable, "-c", "import sys; print(sys.argv[1])"]


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Project]:
    """One for which no SDK is generated, since that would build the generator."""
    monkeypatch.setattr(descriptions, "generate", lambda language, folder: None)
    with EmulatorServer() as emulator:
        yield Project("yaml", tmp_path, emulator)


def test_every_example_without_python_is_run() -> None:
    """A new example in another language is run as well."""
    examples = {
        folder.name
        for folder in (ROOT / "examples").iterdir()
        if folder.is_dir() and not list(folder.glob("*.py"))
    }
    assert examples == set(languages.LANGUAGES) - set(languages.EXAMPLES)


def test_the_schemas_examples_are_compiled_in_each_language() -> None:
    """An example in one more language is compiled as well."""
    assert schema_examples()
    for name, blocks in schema_examples().items():
        assert set(blocks) == set(descriptions.LANGUAGES), name


def test_csharp_is_compiled_where_there_is_dotnet(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each example is a project of its own, which refers to the generated SDK."""
    seen = "import pathlib, sys; pathlib.Path(sys.argv[-1], 'seen').touch()"
    command(tmp_path / "dotnet", seen)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    descriptions.with_csharp(project)
    for name, blocks in schema_examples().items():
        folder = project.folder / name
        assert (folder / "seen").exists(), name
        assert (folder / "Program.cs").read_text() == blocks["csharp"]
        text = (folder / "Example.csproj").read_text()
        (sdk,) = re.findall(r'ProjectReference Include="(.*)"', text)
        assert (folder / sdk).resolve() == project.folder / "sdks" / "fal" / "FalAi.Fal.csproj"


def test_csharp_is_only_generated_elsewhere(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, so that no one takes it for compiled."""
    monkeypatch.setenv("PATH", "")
    descriptions.with_csharp(project)
    assert "only generated, not compiled: dotnet is not on PATH" in capsys.readouterr().out


def test_the_generators_are_those_of_the_cli() -> None:
    """SDKs are generated and compiled by the version of Pulumi that runs them."""
    version = load(CLI / "install.py").VERSION
    for file in (LANGUAGES / "generate" / "go.mod", ROOT / "examples" / "go" / "go.mod"):
        found = re.findall(r"pulumi/(?:pkg|sdk)/v3 (v\S+)", file.read_text())
        assert set(found) == {version}, file


def test_a_command_that_warns_fails() -> None:
    """Pulumi only warns where it takes a plugin from elsewhere than it should."""
    with pytest.raises(commands.Failed, match="warning: using pulumi-resource-fal"):
        commands.run(*SAY, "warning: using pulumi-resource-fal from $PATH", cwd=ROOT)
    commands.run(*SAY, "warning: using pulumi-language-yaml from $PATH", cwd=ROOT)


def test_a_command_that_fails_is_shown_with_its_output() -> None:
    """Both streams are shown, since compilers write to either."""
    program = "import sys; print('one', flush=True); sys.stderr.write('two'); sys.exit(3)"
    with pytest.raises(commands.Failed) as caught:
        commands.run(sys.executable, "-c", program, cwd=ROOT)
    assert str(caught.value) == f"`{sys.executable} -c {program}` exited with 3:\none\ntwo"
