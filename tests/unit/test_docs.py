"""The documentation says what is so: commands exist, code is right, messages are real."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml

import pulumi_fal
from pulumi_fal import errors

from ..commands import POSIX_SHELL
from ..docs import LANGUAGES, ROOT, SDKS, UNLOCKED, Block, blocks, pages, schema_examples

DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent


# Pages


def test_pages_have_the_front_matter_of_pulumis_registry() -> None:
    """A page for Pulumi's registry has a title and a description."""
    for page in DOCS.glob("*.md"):
        head = re.match(r"---\n(.*?)\n---\n", page.read_text(), re.DOTALL)
        if head or page.name in ("_index.md", "installation-configuration.md"):
            assert head is not None, page
            assert yaml.safe_load(head[1]).keys() >= {"title", "meta_desc"}, page


def test_the_index_leads_to_every_page() -> None:
    """The index of the docs has a link to every page."""
    index = (DOCS / "_index.md").read_text()
    assert [page.name for page in DOCS.glob("*.md") if f"({page.name}" not in index] == [
        "_index.md"
    ]


def test_no_link_leads_nowhere() -> None:
    """Every link leads to a file, and every anchor to a heading."""
    for page in pages():
        text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text())
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page}: {target}"
            assert not anchor or anchor in headings(file), f"{page}: {target}"


def headings(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes anchors of them."""
    lines = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


def test_the_architecture_names_every_layer_in_its_order() -> None:
    """The architecture names the layers of pyproject.toml in their order."""
    layers = re.search(r"(?ms)^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text())
    assert layers is not None
    names = re.findall(r"\((\w+)\)", layers[1])
    table = re.findall(r"(?m)^\| `(\w+)`", (DOCS / "architecture.md").read_text())
    assert table == names


# Code


def test_every_block_says_what_it_is() -> None:
    """Every block of code in the docs names its language."""
    for block in blocks():
        assert block.language in LANGUAGES, block


def test_data_is_well_formed() -> None:
    """Blocks of JSON and YAML can be parsed."""
    for block in blocks("yaml"):
        yaml.safe_load(block.text)
    for block in blocks("json"):
        json.loads(block.text)


def test_other_languages_are_taken_from_the_examples() -> None:
    """A block is part of a file that `make languages` compiles, or of an example in the schema."""
    found = blocks(*SDKS)
    assert {block.language for block in found} == SDKS
    schema = [block for texts in schema_examples().values() for block in texts.values()]
    for block in found:
        files = (ROOT / "examples").glob(f"*{block.language}/*.[tg][so]*")
        sources = [file.read_text() for file in files if file.is_file()]
        assert any(block.text in source for source in [*sources, *schema]), block


def test_the_first_page_has_an_example_in_every_language() -> None:
    """It is that of the schema. In Python, the package needs no SDK, so its own is shown."""
    page = DOCS / "_index.md"
    shown = {block.language: block.text for block in blocks() if block.page == page}
    example = schema_examples()["ComputeInstance"]
    assert shown.keys() == example.keys()
    assert {name for name in example if shown[name] != example[name]} == {"python"}
    assert "from pulumi_fal import ComputeInstance" in shown["python"]
    choosable = r"(?m)^\{\{% choosable language (\w+) %\}\}\n\n```(\w+)$"
    assert re.findall(choosable, page.read_text()) == [(name, name) for name in shown]
    assert f'{{{{< chooser language "{",".join(shown)}" >}}}}' in page.read_text()


def test_the_plugin_is_installed_with_its_version() -> None:
    """The version in the commands of the docs is that of the package."""
    pattern = r"plugin install resource fal (\S+)"
    versions = [version for block in blocks("sh") for version in re.findall(pattern, block.text)]
    assert set(versions) == {pulumi_fal.__version__}


@pytest.mark.timeout(300)  # with an empty cache mypy reads all of pulumi first
def test_the_python_of_docs_and_examples_is_typed_right(tmp_path: Path) -> None:
    """The examples pass mypy strictly, and the docs' code without annotations."""
    lines: dict[str, str] = {}
    known = [block for block in blocks("python") if UNLOCKED not in block.text]
    for number, block in enumerate(known):
        compile(block.program, str(block), "exec")
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
        for line in script(block):
            for words in split(line):
                yield f"{block}: {line}", words


def script(block: Block) -> Iterable[str]:
    text = block.text.replace("\\\n", " ")
    if block.language == "yaml":
        return runs(yaml.safe_load(text))
    lines = text.splitlines()
    if block.language == "console":
        return [line[2:] for line in lines if line.startswith("$ ")]
    return lines


def runs(data: object) -> Iterator[str]:
    """The values of all `run` keys."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key == "run":
                yield from str(value).splitlines()
            yield from runs(value)
    elif isinstance(data, list):
        for item in data:
            yield from runs(item)


def split(line: str) -> Iterator[list[str]]:
    """The line's commands, and those in its `$(...)`."""
    for inner in re.findall(r"\$\(([^()]+)\)", line):
        yield from split(inner)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("&|;<>"):
            if words and set(word) <= set("&|;"):
                yield words
                words = []
            continue
        if words or not re.fullmatch(r"\w+=.*", word):  # not a variable before the command
            words.append(word)
    if words:
        yield words


def test_nothing_installs_the_package_by_its_bare_name() -> None:
    """The bare name is not registered, and whoever registers it would get people's keys."""
    folders = ("docs", "examples", "provider", "tools", ".github")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.*") if file.is_file()]
    files += [*ROOT.glob("*.md"), *ROOT.glob("requirements/*"), ROOT / "Makefile"]
    kinds = {"", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}
    for file in files:
        for line in file.read_text().splitlines() if file.suffix in kinds else ():
            name = r"(?<![\w./-])pulumi[-_.]fal"
            named = rf"{name}\[|install .*{name}(?![\w./-])"  # with an extra, or in a command
            assert not re.search(named, line), f"{file}: {line}"
            is_requirement = "requirements" in str(file.relative_to(ROOT))
            assert not (is_requirement and re.match(name, line)), f"{file}: {line}"


def test_only_the_step_that_needs_the_key_has_it() -> None:
    """In CI, a package that runs code when installed must not see the key."""
    jobs = [
        job
        for block in blocks("yaml")
        for job in (yaml.safe_load(block.text).get("jobs") or {}).values()
    ]
    assert len(jobs) == 3
    for job in jobs:
        assert "env" not in job
        (step,) = [step for step in job["steps"] if "env" in step]
        assert "FAL_ADMIN_API_KEY" in step["env"]
        assert re.match("pulumi(-fal)? (up|audit)", step["run"])


PULUMI = {"pulumi": [str(BIN / "pulumi")], "pulumi-fal": [str(BIN / "pulumi-fal")]}
OTHERS = {"ansible", "cat", "curl", "export", "git", "jq", "ls", "pip", "python3", "sleep", "sort"}
OTHERS |= {"eval", "source", "ssh", "test", "uniq", "venv/bin/pip", "xargs"}


@functools.cache
def help_of(command: tuple[str, ...]) -> str:
    """What the real command's --help prints."""
    env = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "1", "COLUMNS": "200"}
    ended = subprocess.run(
        [*command, "--help"], env=env, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return ended.stdout


@POSIX_SHELL
def test_every_command_exists_with_its_flags() -> None:
    """Every command in the docs exists and has the flags that the docs use."""
    targets = re.findall(
        r"(?m)^  make (\S+)", subprocess.check_output(["make", "help"], text=True, cwd=ROOT)
    )
    seen = set()
    for where, words in commands():
        name, *rest = words
        seen.add(name)
        if name in PULUMI:
            assert problem(name, rest) is None, f"{where}: {problem(name, rest)}"
        elif name == "make":
            assert set(rest) <= {*targets, "PYTHON=python3.12"}, where
        elif name in ("python", "venv/bin/python"):
            assert (
                rest[0] in ("main.py", "on_each_node.py")
                or rest[:2] == ["-m", "pytest"]
                or (
                    rest[:2] == ["-m", "pulumi_fal.emulator"]
                    and flags(rest) <= known_flags((sys.executable, "-m", "pulumi_fal.emulator"))
                )
            ), where
        else:
            assert name in OTHERS, where
    assert seen >= {"pulumi", "pulumi-fal", "make", "python"}


def problem(name: str, words: list[str]) -> str | None:
    if (name, *words[:1]) == ("pulumi", "do"):
        return None  # most of its flags are made from the schema; e2e/test_do.py runs it
    command = tuple(PULUMI[name])
    path = [name]
    for word in words:
        usage = " ".join([*path, word])
        if word.startswith("-") or not re.fullmatch(r"[a-z-]+", word):
            break
        text = help_of((*command, *path[1:], word))
        if not re.search(rf"(?mi)^(usage:)?\s*{re.escape(usage)}( |$)", text):
            break
        path.append(word)
    if len(path) == 1 and words and not words[0].startswith("-"):
        return f"{name} has no {words[0]}"
    unknown = flags(words) - known_flags((*command, *path[1:]))
    return f"{' '.join(path)} has no {', '.join(unknown)}" if unknown else None


def flags(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} - {"-m"}


def known_flags(command: tuple[str, ...]) -> set[str]:
    return set(re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", help_of(command)))


# Messages

SPEAKING = (
    "api/[!or]*",
    "arguments",
    "compute_*",
    "dynamic/session",
    "errors",
    "machines/[!w]*",
    "native/base",
    "native/components",
    "native/imports",
    "native/servicer",
    "nodes",
    "provider",
    "resource/*",
)
"""The modules whose texts reach a person through `pulumi`. The command line has its own page, the
words of retry.py are a table of recovering.md, and options.py has descriptions for the schema."""


def templates() -> dict[str, str]:
    """Every line of their texts that has two words or more, as a pattern, with where it stands.

    Texts are strings and f-strings, without docstrings; what is filled in may be anything.
    """
    found: dict[str, str] = {}
    package = ROOT / "provider" / "pulumi_fal"
    for file in (file for name in SPEAKING for file in package.glob(f"{name}.py")):
        for node in texts(ast.parse(file.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(p.value) if isinstance(p, ast.Constant) else "\0" for p in parts)
            for line in text.splitlines():
                if len(re.findall(r"[A-Za-z']{2,}", line)) > 1 and " " in line.strip():
                    known = ".*?".join(map(re.escape, line.split("\0")))
                    found.setdefault(known, f"{file.name}:{node.lineno}")
    return found


def texts(node: ast.AST) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue  # a docstring
        if isinstance(child, ast.JoinedStr) or (
            isinstance(child, ast.Constant) and isinstance(child.value, str)
        ):
            yield child
        else:
            yield from texts(child)


def test_troubleshooting_has_every_message_and_no_other() -> None:
    """Every message in the code has an example in the docs, and no example has no message."""
    page = DOCS / "troubleshooting.md"
    ours, _, pulumis = page.read_text().partition("## Messages from Pulumi")
    assert pulumis
    known = templates()
    said = [
        line
        for block in blocks("text")
        if block.page == page and block.text in ours
        for line in block.text.splitlines()
        # What the API answers is for the next test; an indented line is part of a message, and a
        # blank line is between two.
        if line and not re.match(r"(\w+Error: )?(GET|POST|DELETE) |  ", line)
    ]
    missing = {where: pattern for pattern, where in known.items() if not re.search(pattern, ours)}
    assert missing == {}
    assert [line for line in said if not any(re.search(pattern, line) for pattern in known)] == []


def test_a_command_stands_in_no_line_of_more_than_two_sentences() -> None:
    """A command to copy is found at a glance, and one with arguments has a line to itself."""
    lines = [line for block in blocks("text") for line in block.text.splitlines()]
    assert len(lines) > 150
    for line in lines:
        plain = re.sub(r"`[^`]*`", "`command`", line)
        sentences = re.split(r"(?<=[.?]) (?=[A-Z`])", plain)
        assert "`" not in line or len(sentences) <= 2, line
        assert not re.search(r"\S.*pulumi-fal pending (adopt|forget) \S", line), line


def test_troubleshooting_says_what_the_api_answers_as_it_is_printed() -> None:
    """The docs quote an API error exactly as it is printed."""
    kinds = [getattr(kind, "advice", "") for kind in vars(errors).values()]
    advice = {text for text in kinds if isinstance(text, str)}
    advice.add(errors.UnreachableError("GET", "/", "", sent=False).advice)
    advice.discard("")
    lines = re.findall(r"(?m)^(?:GET|POST|DELETE) .+$", (DOCS / "troubleshooting.md").read_text())
    assert len(lines) > 15
    for line in lines:
        line = re.sub(
            r" (The key that was refused came from .+|Trying again in \d+ s\.|The wait goes on\.)$",
            "",
            line,
        )
        for text in advice:
            line = line.removesuffix(f" {text}")
        assert re.fullmatch(r"\w+ /\S+ (answered \d+|got no answer): .*[^.]\.", line), line
        assert not any(text in line for text in advice), line
