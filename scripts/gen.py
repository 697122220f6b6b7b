"""Writes the reference pages that are generated from the code: `python -m scripts.gen`, by way of `make gen`."""

from __future__ import annotations

from pathlib import Path

from scripts import events_page

ROOT = Path(__file__).parent.parent


def pages() -> dict[str, str]:
    """Every generated file's text by its path from the root; writes nothing, so that a test can compare."""
    return {"docs/reference/events.md": events_page.text()}


def main() -> None:
    """Write every page."""
    for path, text in pages().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
