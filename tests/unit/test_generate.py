"""The files that `make generate` writes. `make lint` fails where one is outdated."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tools.generate.__main__ import FILES, main

from pulumi_fal.api import settings

SCHEMA = "provider/pulumi_fal/native/schema.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the generated files."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True)
    main([], tmp_path)
    return tmp_path


@pytest.mark.parametrize("is_missing", [True, False], ids=["missing", "edited"])
@pytest.mark.parametrize("name", FILES)
def test_outdated(root: Path, name: str, *, is_missing: bool) -> None:
    """A file that is missing or edited fails the check, and `make generate` repairs it."""
    main(["--check"], root)
    file = root / name
    text = file.read_text()
    file.write_text(text.replace("machine", "box"))
    if is_missing:
        file.unlink()
    with pytest.raises(SystemExit, match=f"{re.escape(name)}.*Run `make generate`"):
        main(["--check"], root)
    main([], root)
    assert file.read_text() == text


def test_descriptions(root: Path) -> None:
    """Descriptions for all languages have no words of Python, and each default has its value."""
    text = (root / SCHEMA).read_text()
    plain = re.sub(r"```python.*?```", "", text)  # in JSON's one line
    for word in ("instance_type", "ssh_key", "True", "False", "None", "pulumi.RunError"):
        assert word not in plain, word
    variables = json.loads(text)["config"]["variables"]
    for option, default in (
        (settings.API, f"`{settings.API.default}`"),
        (settings.PARALLEL, f"{settings.PARALLEL.default}"),
        (settings.RETRY_BUDGET, f"{settings.RETRY_BUDGET.default:.0f}"),
    ):
        said = variables[option.name]["description"]
        assert said == f"{option.description} The default is {default}."
