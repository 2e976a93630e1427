"""The documentation says what is so: links, code, commands and tests are real."""

from __future__ import annotations

import ast
import functools
import itertools
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tools.languages.__main__ import examples

import pulumi_fal
from pulumi_fal.api import retry
from pulumi_fal.cli.__main__ import main

from ..docs import REPOSITORY, ROOT, SDKS, UNLOCKED, blocks, pages
from ..processes import POSIX_SHELL

DOCS = ROOT / "docs"
FILES = f"{REPOSITORY}/blob/main/"
RECOVERING = (DOCS / "recovering.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


# Pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """Every link leads to a file that exists, and every anchor to a heading in it."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text())
    pictures = re.findall(r' (?:src|srcset)="([^"]+)"', text)
    links = re.findall(rf"(?m)(?:\]\(|^\[.+\]: )((?:{FILES}|(?!\w+://))[^)\s]+)", text)
    for target in [*links, *pictures]:
        path, _, anchor = target.partition("#")
        here = ROOT / path.removeprefix(FILES) if FILES in path else page.parent / path
        file = here.resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    lines = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("name", ["_index.md", "installation-configuration.md"])
def test_registry(name: str) -> None:
    """Pulumi's Registry copies two pages alone: it needs their heads, and no link between files."""
    _, head, text = (DOCS / name).read_text().split("---\n", 2)
    assert yaml.safe_load(head).keys() >= {"title", "meta_desc"}
    assert not re.findall(r"\]\((?!https://|#)", text)
    given = re.findall(r"(?m)^\[(.+)\]: https://", text)
    assert set(re.findall(r"\]\[(.+?)\]", text)) <= set(given)


def test_llms() -> None:
    """llms.txt of the site has every page, with a description."""
    site = runpy.run_path(str(ROOT / "tools" / "site" / "conf.py"))
    listed = re.findall(r"(?m)^- \[.+\]\(_sources/(\S+)\.md\.txt\): .", site["llms"](DOCS))
    assert sorted(listed) == sorted({f.stem for f in DOCS.glob("*.md")} - {"index"})


def test_retries() -> None:
    """The table of retries in recovering.md has the rows of the code."""
    word = {True: "retried", False: "not retried"}
    rows = [
        (
            rule.failure,
            word[rule.is_temporary],
            word[rule.is_temporary and not rule.may_be_accepted],
            "yes" if rule.may_be_accepted else "no",
        )
        for rule in retry.TABLE
    ]
    table = RECOVERING.partition("## Retries")[2]
    assert re.findall(r"(?m)^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", table)[1:] == rows


# Code


def test_other_languages() -> None:
    """A block is part of an example that `make languages` runs, or of one in the schema."""
    schema = [text for language in SDKS for text in examples(language).values()]
    found = blocks(*SDKS)
    assert {block.language for block in found} == SDKS
    for block in found:
        files = (ROOT / "examples").glob(f"*{block.language}/*.[tg][so]*")
        sources = [file.read_text() for file in files if file.is_file()]
        assert any(block.text in source for source in [*sources, *schema]), block


def test_plugin_version() -> None:
    """The commands that install the plugin name the version of this package."""
    pattern = r"plugin install resource fal (\S+)"
    versions = [version for block in blocks("sh") for version in re.findall(pattern, block.text)]
    assert set(versions) == {pulumi_fal.__version__}


@pytest.mark.timeout(300)  # with an empty cache mypy reads all of pulumi first
def test_python(tmp_path: Path) -> None:
    """The examples pass mypy strictly, and the docs' code passes it without annotations."""
    lines: dict[str, str] = {}
    known = [block for block in blocks("python") if UNLOCKED not in block.text]
    for number, block in enumerate(known):
        name = f"block_{number}.py"
        (tmp_path / name).write_text(
            "# mypy: allow-untyped-defs, allow-untyped-calls\n"
            "# mypy: allow-untyped-decorators\n" + block.program
        )
        lines[name] = str(block)
    # Their folders are no packages. Programs have the same file name, and import the other files.
    for file in (ROOT / "examples").glob("*/*.py"):
        program = f"{file.parent.name}_{file.stem}.py".replace("-", "_")
        name = program if file.stem in ("__main__", "main") else file.name
        (tmp_path / name).write_text(file.read_text())
    mypy = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(tmp_path)]
    result = subprocess.run(mypy, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr, lines)


# Commands


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every simple command of the docs, with where it stands."""
    for block in blocks("sh", "console", "yaml"):
        text = block.text.replace("\\\n", " ")
        lines = [*runs(yaml.safe_load(text))] if block.language == "yaml" else text.splitlines()
        if block.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        for line in lines:
            for words in split(line):
                yield f"{block}: {line}", words


def runs(data: object) -> Iterator[str]:
    """The lines of all values with the key `run`."""
    data = dict(enumerate(data)) if isinstance(data, list) else data
    for key, value in data.items() if isinstance(data, dict) else ():
        yield from str(value).splitlines() if key == "run" else runs(value)


def split(line: str) -> Iterator[list[str]]:
    """The line's commands, and those in its `$(...)`."""
    for inner in re.findall(r"\$\(([^()]+)\)", line):
        yield from split(inner)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= set("&|;<>"):
            if words or not re.fullmatch(r"\w+=.*", word):  # not a variable before the command
                words.append(word)
        elif words and set(word) <= set("&|;"):
            yield words
            words = []


def test_bare_name() -> None:
    """Nothing installs the bare name, since whoever registers it would get people's keys."""
    name = r"(?<![\w./-])pulumi[-_.]fal"
    address = r"(\[\w+\])? @ git\+https://github\.com/fal-ai/pulumi-fal\b"
    # With an extra, or in a command.
    install = re.compile(rf"{name}(?!{address})\[|install .*{name}(?!{address})(?![\w./-])")
    for page in pages():
        assert not install.search(page.read_text()), page
    for lock in (ROOT / "requirements").iterdir():
        assert not re.search(rf"(?m)^{name}", lock.read_text()), lock


def test_key_in_ci() -> None:
    """In CI, a package that runs code when it is installed must not see the key."""
    found = [yaml.safe_load(block.text).get("jobs") or {} for block in blocks("yaml")]
    jobs = [job for jobs in found for job in jobs.values()]
    assert jobs
    for job in jobs:
        assert "env" not in job
        (step,) = [step for step in job["steps"] if "env" in step]
        assert re.match("pulumi(-fal)? (up|audit)", step["run"])


PROGRAMS = {
    "pulumi": (str(BIN / "pulumi"),),
    "pulumi-fal": ("pulumi-fal",),
    "emulator": (sys.executable, "-m", "pulumi_fal.emulator"),
}
OTHERS = {"ansible", "cat", "cd", "curl", "dstack", "eval", "export", "git", "jq", "ls", "pip"}
OTHERS |= {"python3", "rsync", "sky", "sleep", "sort", "source", "ssh", "test", "uniq", "xargs"}
SCRIPTS = (["main.py"], ["on_each_node.py"], ["-m", "pytest"])


@functools.cache
def help_of(command: tuple[str, ...]) -> str:
    """What the real command's --help prints."""
    if command[0] == "pulumi-fal":
        words = command[1:3] if command[1:2] == ("pending",) else command[1:2]
        return CliRunner().invoke(main, [*words, "--help"], prog_name="pulumi-fal").output
    env = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "1", "COLUMNS": "200"}
    run = subprocess.run(  # it fails for an argument that is no sub-command
        [*command, "--help"], env=env, text=True, cwd=ROOT, check=False, stdout=subprocess.PIPE
    )
    return run.stdout


@POSIX_SHELL
def test_commands() -> None:
    """Every command in the docs exists and has the flags that the docs use."""
    helped = subprocess.check_output(["make", "help"], text=True, cwd=ROOT)
    targets = {*re.findall(r"(?m)^  make (\S+)", helped), "PYTHON=python3.12"}
    seen = set()
    for where, (name, *rest) in commands():
        name = name.removeprefix("venv/bin/")
        seen.add(name)
        if name == "pulumi-fal" and rest[:1] == ["emulator"]:  # which parses its own arguments
            assert problem("emulator", rest[1:]) is None, where
        elif name == "python":
            assert rest[:1] in SCRIPTS or rest[:2] in SCRIPTS, where
        elif name in PROGRAMS:
            assert problem(name, rest) is None, where
        elif name == "make":
            assert set(rest) <= targets, where
        else:
            assert name in OTHERS, where
    assert seen >= {"pulumi", "pulumi-fal", "make", "python"}


def problem(name: str, words: list[str]) -> str | None:
    """What the command doesn't have: a sub-command, or flags."""
    if (name, *words[:1]) == ("pulumi", "do"):
        return None  # most of its flags are made from the schema; e2e/test_cli.py runs it
    first = itertools.takewhile(lambda word: re.fullmatch(r"[a-z][a-z-]*", word), words)
    shown = help_of((*PROGRAMS[name], *first))
    usage = re.search(rf"(?i)usage:\s+{name}((?: [a-z-]+)*)", shown)
    if words and not words[0].startswith("-") and not (usage and words[0] in usage[1].split()):
        return f"{name} has no {words[0]}"
    flags = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    known = re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", shown)
    return f"{name} has no {flags - set(known)}" if flags - set(known) else None


# Tests that CONTRIBUTING.md and the marker `chaos` name

TESTS = ROOT / "tests"
TABLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### Which test shows")[2]
ROWS = [line.strip("|").split("|") for line in TABLE.splitlines() if line.startswith("| ")][1:]
MARKERS: dict[str, list[ast.expr]] = {
    f"{file.relative_to(TESTS).as_posix()}::{node.name}": [
        decorator
        for decorator in node.decorator_list
        if ast.unparse(decorator).startswith("pytest.mark.chaos")
    ]
    for file in sorted(TESTS.rglob("test_*.py"))
    for node in ast.parse(file.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
}
"""The markers `chaos` of each test. Those in the folder `chaos` have one from its conftest."""
QUICK = {test for test, markers in MARKERS.items() if not markers and "chaos/" not in test}


@pytest.mark.parametrize("promise, law, shown_by", ROWS, ids=[row[0].strip() for row in ROWS])
def test_promise(promise: str, law: str, shown_by: str) -> None:
    """A promise has a link to where it is made, and tests that `make test` runs."""
    assert re.search(r"\]\([^)]+\)", law)
    names = re.findall(r"`([^`]+)`", shown_by)
    assert names, promise
    assert set(names) <= QUICK


def test_stand_ins() -> None:
    """A slow test names the quick one that finds the same mistakes at a lower level."""
    slow = [(test, marker) for test, markers in MARKERS.items() for marker in markers]
    assert slow
    for test, marker in slow:
        assert "chaos/" not in test, f"{test}: the folder has the marker already"
        assert isinstance(marker, ast.Call), f"{test}: name a quick test"
        assert {ast.literal_eval(name) for name in marker.args} <= QUICK, test
