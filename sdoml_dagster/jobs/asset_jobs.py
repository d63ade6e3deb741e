"""The jobs: selections of assets that are backfilled, scheduled or started by hand."""

import dagster as dg

RAW = ("raw_aia", "raw_hmi")
PROCESSED = ("processed_aia", "processed_hmi")
# Selections as objects: a list of names would go through the parser for selections, slow to load.

ingest = dg.define_asset_job(
    "ingest",
    selection=dg.AssetSelection.assets(*RAW, *PROCESSED),
    description="Fetch and process days: the first step of a new dataset.",
)
fit_normalization = dg.define_asset_job(
    "fit_normalization",
    selection=dg.AssetSelection.assets("normalization_stats"),
    description="Fit the normalization constants to the processed days and freeze them.",
)
build_shards = dg.define_asset_job(
    "build_shards",
    selection=dg.AssetSelection.assets("shards"),
    description="Pack processed days with the frozen constants.",
)
daily_update = dg.define_asset_job(
    "daily_update",
    selection=dg.AssetSelection.assets(*RAW, *PROCESSED, "shards"),
    description="Bring one day from the archive to its shard, with the frozen constants.",
)
make_release = dg.define_asset_job(
    "make_release",
    selection=dg.AssetSelection.assets("release"),
    description="Number, index and describe the shards for those who train with them.",
)

ASSET_JOBS = [ingest, fit_normalization, build_shards, daily_update, make_release]
