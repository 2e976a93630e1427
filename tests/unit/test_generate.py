"""The files that `make generate` writes. `make lint` fails where one is outdated."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tools.generate.__main__ import FILES, main

from pulumi_fal.api import options

SCHEMA = "provider/pulumi_fal/native/schema.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the generated files."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True)
    main([], tmp_path)
    return tmp_path


def schema(root: Path) -> Any:
    return json.loads((root / SCHEMA).read_text())


def test_files_that_were_just_written_pass_the_check(root: Path) -> None:
    """Generating twice gives the same text."""
    main(["--check"], root)


@pytest.mark.parametrize("name", FILES)
def test_an_edited_file_fails_the_check_which_names_the_command(root: Path, name: str) -> None:
    """The message says what is outdated and what to run, and that repairs it."""
    file = root / name
    file.write_text(file.read_text().replace("machine", "box"))
    with pytest.raises(SystemExit) as caught:
        main(["--check"], root)
    assert name in str(caught.value)
    assert "Run `make generate`" in str(caught.value)
    main([], root)
    main(["--check"], root)


def test_a_missing_file_fails_the_check(root: Path) -> None:
    """A generated file that is missing was renamed, or never added."""
    (root / SCHEMA).unlink()
    with pytest.raises(SystemExit, match=re.escape(SCHEMA)):
        main(["--check"], root)


def test_descriptions_for_all_languages_have_no_words_of_python(root: Path) -> None:
    """The docstrings have them."""
    fenced = r"```python.*?```"  # in JSON's one line
    text = re.sub(fenced, "", (root / SCHEMA).read_text())
    for word in ("instance_type", "ssh_key", "True", "False", "None", "pulumi.RunError"):
        assert word not in text, word


def test_a_default_is_described_with_its_value(root: Path) -> None:
    """The value is that which the code uses."""
    variables = schema(root)["config"]["variables"]
    for option, default in (
        (options.API, f"`{options.API.default}`"),
        (options.PARALLEL, f"{options.PARALLEL.default}"),
        (options.RETRY_BUDGET, f"{options.RETRY_BUDGET.default:.0f}"),
    ):
        said = variables[option.name]["description"]
        assert said == f"{option.description} The default is {default}."
