"""A collection's file, which may be taken away while it is open."""

from __future__ import annotations

from pathlib import Path

import pytest

from kadre.engine.vectors.port import CollectionMissing, Item
from kadre.engine.vectors.sqlite import SqliteVectors


async def filled(file: Path, text: str) -> None:
    store = SqliteVectors(file, "c")
    await store.ensure(2)
    await store.upsert([Item(text, (1.0, 0.0), text)])
    await store.aclose()


def taken_away(folder: Path) -> None:
    for part in folder.iterdir():
        part.unlink()


async def test_one_that_was_deleted_is_served_no_more_and_one_in_its_place_is(tmp_path: Path) -> None:
    file = tmp_path / "c.db"
    await filled(file, "old")
    store = SqliteVectors(file, "c")
    assert [hit.text for hit in await store.search((1.0, 0.0), 5)] == ["old"]
    taken_away(tmp_path)
    with pytest.raises(CollectionMissing):
        await store.search((1.0, 0.0), 5)
    await filled(file, "new")
    assert [hit.text for hit in await store.search((1.0, 0.0), 5)] == ["new"]
    taken_away(tmp_path)
    await store.ensure(3)
    assert (await store.count(), file.exists()) == (0, True)
    await store.aclose()
