"""What `kadre ingest` knows files by, and what of a collection it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kadre.engine.vectors.sqlite import SqliteVectors
from tests.doors.test_retrieval import ingest
from tests.support.embeddings import embeddings

pytestmark = pytest.mark.requirement("ingest")
TOOL = """
apiVersion: kagent.dev/v1alpha1
kind: Tool
metadata: {name: handbook}
spec:
  type: retrieval
  retrieval:
    vectorStore: {type: sqlite, collection: handbook}
    embedding: {provider: %s, model: m, dimension: 64%s}
"""


def written(folder: Path, provider: str = "scripted", more: str = "", **files: str) -> None:
    (folder / "tool.yaml").write_text(TOOL % (provider, more))
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_md", ".md")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


async def kept(folder: Path) -> set[tuple[str, str]]:
    """The source and the text of each passage."""
    store = SqliteVectors(folder / ".kadre" / "vectors" / "handbook.db", "handbook")
    found = {(str(document.metadata["source"]), document.text) for document in await store.get()}
    await store.aclose()
    return found


async def test_files_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    written(tmp_path, a__README_md="one", b__README_md="two")
    for name in "ab":
        code, said = await ingest(tmp_path / name, "handbook", "README.md", "-f", "../tool.yaml")
        assert code == 0, said
    code, said = await ingest(tmp_path, "handbook", "a", "b")
    assert (code, "0 new, 2 there already" in said) == (0, True), said
    assert await kept(tmp_path) == {("a/README.md", "one"), ("b/README.md", "two")}


async def test_what_another_whole_wrote_is_left_alone_and_one_that_is_named_is_the_same_anywhere(
    tmp_path: Path,
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, x_md=name)
    data = ("--data-dir", str(tmp_path / ".kadre"))
    for name in ("here", "there"):
        code, said = await ingest(tmp_path / name, "handbook", "x.md", *data)
        assert code == 0, said
    assert await kept(tmp_path) == {("x.md", "here"), ("x.md", "there")}
    for name in ("here", "there"):
        code, said = await ingest(tmp_path / name, "handbook", "x.md", *data, "--origin", "ci")
        assert code == 0, said
    store = SqliteVectors(tmp_path / ".kadre" / "vectors" / "handbook.db", "handbook")
    assert await store.count() == 3
    await store.aclose()


async def test_what_is_gone_from_a_folder_is_forgotten_where_that_is_asked_for(tmp_path: Path) -> None:
    written(tmp_path, a__x_md="one", a__y_md="two", b__z_md="three")
    assert (await ingest(tmp_path, "handbook", "a", "b"))[0] == 0
    for name in ("a/x.md", "b/z.md"):
        (tmp_path / name).unlink()
    assert (await ingest(tmp_path, "handbook", "a"))[0] == 0
    assert len(await kept(tmp_path)) == 3
    code, said = await ingest(tmp_path, "handbook", "a", "--prune")
    assert (code, "a/x.md: it is gone, and forgotten" in said) == (0, True), said
    assert await kept(tmp_path) == {("a/y.md", "two"), ("b/z.md", "three")}
    (tmp_path / "a" / "y.md").unlink()
    code, said = await ingest(tmp_path, "handbook", "a")
    assert (code, "there is no document in this folder" in said) == (1, True), said
    assert (await ingest(tmp_path, "handbook", "a", "--prune"))[0] == 0
    assert await kept(tmp_path) == {("b/z.md", "three")}


async def test_a_changed_file_is_forgotten_when_it_is_written_anew_and_not_before(tmp_path: Path) -> None:
    async with embeddings() as model:
        model.dimension = 64
        written(tmp_path, "vllm", f", endpoint: {model.url}", x_md="old")
        assert (await ingest(tmp_path, "handbook", "x.md"))[0] == 0
        written(tmp_path, "vllm", f", endpoint: {model.url}", x_md="new")
        model.answers = [400]
        code, said = await ingest(tmp_path, "handbook", "x.md")
        assert (code, await kept(tmp_path)) == (1, {("x.md", "old")}), said
        code, said = await ingest(tmp_path, "handbook", "x.md")
        assert (code, await kept(tmp_path)) == (0, {("x.md", "new")}), said
        written(tmp_path, "scripted")
        (tmp_path / "other.md").write_text("other")
        code, said = await ingest(tmp_path, "handbook", "other.md")
        assert (code, "1 passage in handbook were embedded with another model" in said) == (0, True), said
        code, said = await ingest(tmp_path, "handbook", "x.md")
        assert (code, "1 new" in said, "another model" in said) == (0, True, False), said


async def test_what_no_store_could_hold_is_told_before_anything_is_written(tmp_path: Path) -> None:
    written(tmp_path, good_md="good")
    names = ",".join(f"c{number}" for number in range(40))
    (tmp_path / "wide.csv").write_text(f"text,{names}\nhi,{','.join(['x' * 900] * 40)}\n")
    code, said = await ingest(tmp_path, "handbook", "good.md", "wide.csv")
    assert (code, "Traceback" in said, "has more than 16000 bytes" in said) == (1, False, True), said
    assert not (tmp_path / ".kadre").exists()
