"""The documentation page that every gate, head and family of environments has."""

from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def page(kind: str, name: str, template: str) -> str:
    """Reads docs/KIND/NAME.md, or fails with a sentence that says what to do."""
    path = DOCS / kind / f"{name}.md"
    told = f"docs/{kind}/{name}.md"
    assert path.is_file(), f"{told} is missing: copy docs/{kind}/{template}.md"
    text = path.read_text("utf-8")
    assert text.startswith("# "), f"{told} must begin with a title"
    index = (path.parent / "README.md").read_text("utf-8")
    assert f"({name}.md)" in index, f"docs/{kind}/README.md does not link to {name}.md: add a row"
    return text
