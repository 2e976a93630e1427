"""The site of the docs, for `make docs`: Sphinx reads the same Markdown as GitHub shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/fal-ai/pulumi-fal"

project = "pulumi-fal"
author = "the pulumi-fal authors"
extensions = ["myst_parser", "sphinx.ext.githubpages", "sphinxcontrib.mermaid"]
root_doc = "index"
html_theme = "furo"
html_title = "pulumi-fal"
html_logo = str(ROOT / "docs" / "logo.svg")
html_show_sphinx = False
html_copy_source = True
# What HTML in the pages shows; pictures in Markdown are copied without this.
html_extra_path = [str(file) for file in sorted((ROOT / "docs").glob("fleet-*.svg"))]
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}
# The same anchors as on GitHub.
myst_heading_anchors = 4
# A browser draws the diagrams, as on GitHub, with a script of that version from a CDN.
myst_fence_as_directive = ["mermaid"]
mermaid_version = "11.12.1"
mermaid_fullscreen = False


def pages(index: str) -> dict[str, list[str]]:
    """Return the names of the pages by the index's headings, in its order."""
    sections = dict(re.findall(r"(?ms)^## (.+?)\n(.*?)(?=^## |\Z)", index))
    links = {
        title: re.findall(r"(?m)^- \[.+?\]\((\S+)\.md\)", text) for title, text in sections.items()
    }
    return {title: names for title, names in links.items() if names}


def on_read(_: object, name: str, text: list[str]) -> None:
    """Add the navigation to the index, and point links out of docs to the repository.

    Those from the Registry's pages to others of docs have its address, and stay on the site.
    """
    text[0] = text[0].replace(f"{REPOSITORY}/blob/main/docs/", "")
    text[0] = re.sub(r"\]\(\.\./([^)\s]+)\)", rf"]({REPOSITORY}/blob/main/\1)", text[0])
    if name == root_doc:
        for title, names in pages(text[0]).items():
            rows = "\n".join(names)
            text[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{rows}\n```\n"


def llms(docs: Path) -> str:
    """Return llms.txt: what each page is about, with the address of its Markdown."""
    index = (docs / "index.md").read_text(encoding="utf-8")
    lines = [f"# {project}", "", f"> {described(index)}"]
    for title, names in pages(index).items():
        lines += ["", f"## {title}", ""]
        for name in names:
            page = (docs / f"{name}.md").read_text(encoding="utf-8")
            heading = re.search(r"(?m)^# (.+)$", page)
            address = f"_sources/{name}.md.txt"
            lines.append(f"- [{heading[1] if heading else name}]({address}): {described(page)}")
    return "\n".join([*lines, ""])


def described(page: str) -> str:
    found = re.search(r"(?m)^meta_desc: (.+)$", page)
    return found[1] if found else ""


def on_finished(app: Any, error: Exception | None) -> None:
    if not error and app.builder.name == "html":
        Path(app.outdir, "llms.txt").write_text(llms(Path(app.srcdir)), encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("source-read", on_read)
    app.connect("build-finished", on_finished)
