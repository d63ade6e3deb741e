"""The coverage table that commands print: frames by channel and status."""

from collections import Counter
from collections.abc import Iterator, Mapping

import pyarrow as pa

from sdoml_core.channels import CHANNELS
from sdoml_core.formats.parquet import open_parquet, read_columns
from sdoml_dagster.formatting import percent
from sdoml_dagster.release.coverage import REASONS
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store


def coverage_table(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Format the number of frames by channel and status, in aligned columns."""
    shown = [
        name
        for name in dict.fromkeys(["ok", *REASONS, *(n for c in counts.values() for n in c)])
        if name == "ok" or (name != "expected" and any(c.get(name) for c in counts.values()))
    ]
    rows = [["channel", "expected", "coverage", *(name.replace("_", " ") for name in shown)]]
    for channel, count in counts.items():
        expected = count.get("expected", 0)
        rows.append(
            [channel, f"{expected:,}", percent(count.get("ok", 0), expected)]
            + [f"{count.get(name, 0):,}" for name in shown]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = zip(row, widths, strict=True)
        yield "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)])


def release_coverage(store: Store, name: str) -> dict[str, Counter[str]]:
    """Return the frame counts of a release by channel, from its coverage.parquet."""
    data = store.read(f"{layout.release_folder(name)}/coverage.parquet")
    table = read_columns(open_parquet(data))
    channels = table.column("channel").combine_chunks().dictionary_encode()
    codes = channels.indices.to_numpy()
    counts: dict[str, Counter[str]] = {}
    for code, channel in enumerate(channels.dictionary.to_pylist()):
        mine = table.filter(pa.array(codes == code))
        counts[channel] = Counter(
            {kind: int(mine.column(kind).to_numpy().sum()) for kind in ("expected", *REASONS)}
        )
    return {channel: counts[channel] for channel in CHANNELS if channel in counts}
