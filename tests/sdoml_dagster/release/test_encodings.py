"""Releases with a different encoding, built from only the daily shards."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from sdoml_core.errors import SettingError
from sdoml_core.formats.index import decode_index
from sdoml_core.loader import SDOMLlite
from sdoml_core.normalization.constants import from_json
from sdoml_core.normalization.noise import steps_of
from sdoml_dagster.days import ALL_DAYS
from sdoml_dagster.maintenance.contents import read_day
from sdoml_dagster.maintenance.verify import verify_store
from sdoml_dagster.pipeline.pack import pack_day
from sdoml_dagster.release.build import ReleaseRequest, is_current
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from tests.sdoml_dagster.release.test_release import (
    FIRST,
    NAMES,
    build,
    contents,
    make,
    run_snippets,
    settings_for,
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two days of npy shards, an npy release, and a compact release."""
    folder = tmp_path_factory.mktemp("compact")
    build(folder, [0, 1], cadence_minutes=60)
    settings = settings_for(folder, cadence_minutes=60)
    make(folder, settings, name="exact")
    for path in (folder / "processed").rglob("*.npy"):
        path.rename(path.with_suffix(".hidden"))  # a release must not need processed frames
    make(folder, settings, name="small", encoding="compact")
    for path in (folder / "processed").rglob("*.hidden"):
        path.rename(path.with_suffix(".npy"))
    return folder


def test_compact_release_has_the_same_samples_within_half_a_step(stored: Path) -> None:
    exact = SDOMLlite(stored / "releases/exact", NAMES, metadata=True)
    small = SDOMLlite(stored / "releases/small", NAMES, metadata=True, verify=True)
    assert len(small) == len(exact) > 30
    constants = from_json((stored / "normalization/current.json").read_bytes())
    limits = [0.5 / steps_of(name, "compact", constants) + 1e-7 for name in NAMES]
    for number in range(0, len(exact), 7):
        pixels, time, facts = small[number]
        whole, same_time, same_facts = exact[number]
        assert (time, facts) == (same_time, same_facts)
        worst = (pixels - whole).abs().amax(dim=(1, 2)).tolist()
        assert all(w <= limit for w, limit in zip(worst, limits, strict=True))


def test_converted_shards_match_packed_shards(stored: Path) -> None:
    store, settings = Store(str(stored)), settings_for(stored, cadence_minutes=60)
    settings = settings.model_copy(update={"encoding": "compact"})
    before = {path: store.read(path) for path in (layout.shard(FIRST), layout.shard_index(FIRST))}
    index = pack_day(FIRST, settings=settings, store=store, report=print).index
    packed = store.read(layout.shard(FIRST))
    for path, data in before.items():
        store.write(path, data)
    assert packed == (stored / "releases/small/small-1.tar").read_bytes()
    assert decode_index(before[layout.shard_index(FIRST)]).shard_bytes > index.shard_bytes


def test_compact_release_verifies_and_is_current(stored: Path) -> None:
    store, settings = Store(str(stored)), settings_for(stored, cadence_minutes=60)
    assert not verify_store(store, days=ALL_DAYS, threads=2, report=print).damages
    for encoding, current in (("compact", True), ("compact-fine", False), (None, False)):
        request = ReleaseRequest(name="small", encoding=encoding)  # type: ignore[arg-type]
        assert is_current(request, settings=settings, store=store) == current


def test_repeated_compact_release_has_the_same_bytes(stored: Path) -> None:
    before = contents(stored / "releases/small")
    settings = settings_for(stored, cadence_minutes=60)
    make(stored, settings, name="small", encoding="compact")
    assert contents(stored / "releases/small") == before


def test_code_in_the_card_runs(stored: Path) -> None:
    folder = stored / "releases/small"
    card = (folder / "README.md").read_text()
    assert "| Pixels | 64×64 compact, values in [0, 1], north up |" in card
    assert "Rounding adds at most 10%" in card
    (folder / "README.md").write_text(card.replace('"small', '"sdoml-lite'))
    try:
        assert run_snippets(folder) == 4
    finally:
        (folder / "README.md").write_text(card)


def test_compact_shards_can_be_released_as_npy_or_linked(tmp_path: Path) -> None:
    settings = build(tmp_path, [0, 1], encoding="compact")
    linked = make(tmp_path, settings, name="linked")
    assert linked.description.encoding == "compact"
    assert (tmp_path / "releases/linked/linked-1.tar").samefile(tmp_path / layout.shard(FIRST))
    joined = make(tmp_path, settings, name="joined", days_per_shard=2)
    assert joined.description.encoding == "compact"
    back = make(tmp_path, settings, name="back", encoding="npy")
    assert (back.description.encoding, back.description.dtype) == (None, "float32")
    datasets = [SDOMLlite(tmp_path / "releases" / name, NAMES) for name in ("linked", "back")]
    datasets.append(SDOMLlite(tmp_path / "releases/joined", NAMES))
    for number in range(len(datasets[0])):
        first, *others = (dataset[number][0].numpy() for dataset in datasets)
        for other in others:
            np.testing.assert_array_equal(other, first)
    daily = SDOMLlite(tmp_path / "shards", NAMES)
    assert daily[FIRST + timedelta(days=1)][1] == "2024-03-02T00:00:00"
    for encoding, adopted in (("compact", True), ("compact-fine", False), ("npy", False)):
        other = settings.model_copy(update={"encoding": encoding})
        shard = read_day(other, Store(str(tmp_path)), FIRST).shard
        assert shard is not None
        assert shard.as_configured == adopted


def test_unknown_encoding_is_rejected() -> None:
    with pytest.raises(SettingError, match="must be one of npy, compact, compact-fine"):
        ReleaseRequest(encoding="png")  # type: ignore[arg-type]
