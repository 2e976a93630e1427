"""The documentation as tests read it: its pages, and the blocks of code in them.

A block's language says how it is held to its word:

python    It is type-checked, and run: as a test if it has one, else as a script if it starts an
          emulator or an automation of its own, else as a Pulumi program, by the real engine. A
          program without `import pulumi` gets PRELUDE. One that logs in to its machines is not run,
          and of one with a package that is not in the lock nothing is held to its word.
sh        Each line is a command: its sub-command and its flags are looked up in the real `--help`.
console   The same of the lines that start with `$ `; the others are output.
yaml      It is parsed, and its `run` values are commands.
json      It is parsed.
typescript, go, csharp, java
          It is taken from an example, or from one in the schema; `make languages` compiles them.
text      Output; so is a block without a language.
mermaid   A chart, which GitHub draws.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/fal-ai/pulumi-fal"
SDKS = {"typescript", "go", "csharp", "java"}
# markdown-it-py finds the same blocks and headings in these pages, and takes many times as long.
FENCED = r"(?ms)^```(\w*)\n(.*?)^```$"
UNLOCKED = "import pulumi_command"
"""What programs with a package begin with whose plugin only Pulumi's servers have."""
LOGGING_IN = ("from set_up import", UNLOCKED)
"""What programs begin with that log in to their machines, which the emulator's don't allow.
e2e/test_examples.py runs the example with the first."""
PLACEHOLDER = "ssh-ed25519 AAAA... me@laptop"
SSH_KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} me@laptop"
PRELUDE = f"import pulumi\nfrom pulumi_fal import ComputeInstance\n\nssh_key = {SSH_KEY!r}\n"


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its fence."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_test(self) -> bool:
        return "def test_" in self.text

    @property
    def is_program(self) -> bool:
        """Whether `pulumi up` runs it."""
        others = ("EmulatorServer(", "automation", *LOGGING_IN)
        return not (self.is_test or any(word in self.text for word in others))

    @property
    def is_script(self) -> bool:
        """Whether it is run by itself, as a test if it has one."""
        return not (self.is_program or any(word in self.text for word in LOGGING_IN))

    @property
    def program(self) -> str:
        text = self.text.replace(PLACEHOLDER, SSH_KEY)
        return PRELUDE + text if self.is_program and "import pulumi\n" not in text else text


def pages() -> list[Path]:
    top = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "RELEASING", "SECURITY")]
    return [*top, *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("examples/*/README.md"))]


def blocks(*languages: str) -> list[Block]:
    texts = ((page, page.read_text(encoding="utf-8")) for page in pages())
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for page, text in texts
        for match in re.finditer(FENCED, text)
        if not languages or match[1] in languages
    ]
