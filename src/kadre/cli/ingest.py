"""`kadre ingest`: files into the collection that a retrieval tool searches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadre.cli.options import NoColor, examples, grouped
from kadre.cli.up import Maps

Tool = Annotated[str, typer.Argument(metavar="TOOL", show_default=False, help="A Tool of type retrieval, by its name.")]
Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE",
        show_default=False,
        help="Text, Markdown, HTML, JSON, JSON lines, CSV or TSV, by the ending of its name; or folders of these.",
    ),
]
Manifests = Annotated[
    list[Path] | None,
    typer.Option(
        "--filename",
        "-f",
        metavar="PATH",
        show_default=False,
        help="Where the tool's manifest is. Repeatable. [default: the folder you are in]",
    ),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NAMESPACE", show_default=False, help="Where the tool is.")
]
Chunk = Annotated[int, typer.Option("--chunk", metavar="CHARACTERS", min=100, max=16_000, help="The longest passage.")]
Overlap = Annotated[
    int, typer.Option("--overlap", metavar="CHARACTERS", min=0, help="What a passage repeats of the one before.")
]
DataDir = Annotated[
    str,
    typer.Option(
        "--data-dir",
        envvar="KADRE_DATA_DIR",
        metavar="DIR",
        show_default=False,
        help="Where sqlite collections are: that of `kadre up`. [default: .kadre beside the first --filename]",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        show_default=False,
        help="Metadata of every passage, which the tool's parameters filter by. Repeatable.",
    ),
]


Origin = Annotated[
    str,
    typer.Option(
        "--origin",
        metavar="NAME",
        show_default=False,
        help="What the files are a part of, where their folder is another each time; nothing of other origins is"
        " replaced. [default: the path of the folder of the first --filename]",
    ),
]
Prune = Annotated[bool, typer.Option("--prune", help="Forget what is in the given folders no more.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kadre ingest search-knowledge-base docs/ -f agents/ --set category=manual",
            "kadre ingest search-knowledge-base faq.csv notes.md -f tools.yaml",
            "kadre ingest search-knowledge-base docs/ --chunk 2000 --overlap 200",
            "kadre ingest search-knowledge-base docs/ --map milvus.ai-data.svc.cluster.local:19530=localhost:19530",
        )
    )(ingest)


def _what(tool: Tool, files: Files, manifests: Manifests = None, namespace: Namespace = "") -> Any:
    return {
        "tool": tool,
        "files": tuple(map(str, files)),
        "manifests": tuple(map(str, manifests or [Path()])),
        "namespace": namespace,
    }


def _kept(origin: Origin = "", prune: Prune = False) -> Any:
    return {"origin": origin, "prune": prune}


def _cut(chunk: Chunk = 1000, overlap: Overlap = 150, sets: Sets = None) -> Any:
    if overlap * 2 >= chunk:
        raise typer.BadParameter(f"less than half of --chunk {chunk}", param_hint="--overlap")
    return {"chunk": chunk, "overlap": overlap, "metadata": dict(map(_pair, sets or ()))}


def _where(data_dir: DataDir = "", maps: Maps = None, no_color: NoColor = False) -> Any:
    from kadre.local import settings

    parts = [part for given in maps or () for part in given.split(",") if part.strip()]
    return {"data_dir": data_dir, "maps": tuple(map(settings.parse_map, parts)), "color": not no_color}


@grouped(_what, _cut, _kept, _where)
def ingest(what: Any, cut: Any, kept: Any, where: Any) -> None:
    """Fill the collection that a retrieval tool searches.

    Files are cut into passages, embedded by the tool's own model and kept in its vector store. What is there already is
    passed over, so a run that was interrupted is run again to go on; a file that has changed takes the place of what it
    was. Markdown's front matter, other columns of a row and other fields of an object are metadata. All that is wrong
    with the tool and the files is told before anything is written.
    """
    from kadre.local import ingest as ingesting

    raise typer.Exit(ingesting.run(ingesting.IngestSettings(**what, **cut, **kept, **where)))


def _pair(text: str) -> tuple[str, str | int | float | bool]:
    """`NAME=VALUE`; a value that is a number, true or false is taken as such, unless it is in quotes."""
    import yaml

    name, equals, value = text.partition("=")
    if not (name and equals) or name in ("source", "passage") or name.startswith("kadre_"):
        raise typer.BadParameter(
            f"{text!r} is not NAME=VALUE, or its name is source, passage or begins with kadre_", param_hint="--set"
        )
    read = yaml.safe_load(value) if len(value) < 100 else value
    return name, read if isinstance(read, bool | int | float) else value.strip("'\"")
