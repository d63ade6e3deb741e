"""Stop a release that would silently leave out days whose shards were found to be damaged."""

from sdoml_core.errors import MissingInputError
from sdoml_dagster.days import DayRange, list_days
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store


def refuse_damaged_days(store: Store, days: DayRange) -> None:
    """Raise an error until all damaged shards in the release's range are rebuilt.

    Raises
    ------
    MissingInputError
        If ``verify_store`` moved a shard in the range aside and its day still has no shard.
    """
    lost = sorted(
        day
        for day in layout.damaged_shards(store) - layout.shard_files(store).keys()
        if day in days
    )
    if lost:
        raise MissingInputError(
            f"verify_store moved the damaged shards for {list_days(lost)} to "
            f"{store.locate(layout.DAMAGED)}: run build_shards for these days first. To release "
            "without them, delete the damaged files"
        )
