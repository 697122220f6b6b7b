"""Writes every file that is generated from the code: `python -m scripts.gen`, by way of `make gen`."""

from __future__ import annotations

from pathlib import Path

from kadre.api import crd
from scripts import chart_page, children, cli_page, events_page, resources_page, rights_page

ROOT = Path(__file__).parent.parent


def pages() -> dict[str, str]:
    """Every generated file's text by its path from the root; writes nothing, so that a test can compare."""
    crds = {f"tests/golden/crds/{made['metadata']['name']}.yaml": crd.dump(made) for made in crd.crds()}
    return {
        "docs/reference/chart.md": chart_page.text(),
        "docs/reference/cli.md": cli_page.text(),
        "docs/reference/events.md": events_page.text(),
        "docs/reference/resources.md": resources_page.text(),
        "docs/reference/rights.md": rights_page.text(),
        **crds,
        **{f"tests/golden/children/{name}": text for name, text in children.texts().items()},
    }


def main() -> None:
    """Write every page."""
    for path, text in pages().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
