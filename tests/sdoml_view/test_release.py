"""An open dataset: metadata from the index, unusual datasets, and datasets that disappear."""

from pathlib import Path

import pytest

from sdoml_core.formats import release_index
from sdoml_view.release import Release
from tests.support.synthetic_shards import write_release
from tests.support.viewer import CHANNELS, SIDE, viewer_facts


def test_metadata_is_read_by_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_index, "GROUP_SAMPLES", 10)
    write_release(tmp_path, 2, channels=CHANNELS, side=SIDE, facts_of=viewer_facts)
    release = Release(tmp_path)
    groups = release.catalog.row_groups()
    assert len(groups) > 2
    assert [row for group in groups for row in group] == list(range(len(release.catalog)))
    whole = release.catalog.facts(CHANNELS)
    for row in range(len(release.catalog)):
        for name in CHANNELS:
            info = release.info(row, name)
            assert info.observed == whole[name]["observed"][row].as_py()
            assert info.exposure == whole[name]["exposure"][row].as_py()
            assert info.flags == (whole[name]["flags"][row].as_py() or 0)
