"""What counts as touched since the files were read."""

from __future__ import annotations

from pathlib import Path

from kadre.local.watch import TICK_SECONDS, untouched


def test_files_are_untouched_until_one_changes_or_goes(tmp_path: Path) -> None:
    file = tmp_path / "agents.yaml"
    file.write_text("a: 1\n")
    changed = max(tmp_path.stat().st_ctime, file.stat().st_ctime)
    assert untouched([tmp_path, file], changed + 2 * TICK_SECONDS)
    assert not untouched([tmp_path, file], changed)
    assert not untouched([tmp_path, file], changed - 1)
    assert not untouched([tmp_path, file, tmp_path / "gone.yaml"], changed + 2 * TICK_SECONDS)


def test_a_file_within_a_tick_of_the_reading_counts_as_touched(tmp_path: Path) -> None:
    assert not untouched([tmp_path], tmp_path.stat().st_ctime + TICK_SECONDS / 2)
