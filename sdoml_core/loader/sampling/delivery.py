"""Number of items that a ``DataLoader`` with workers has delivered to the training loop.

A ``DataLoader`` does not tell its dataset or its sampler what it delivered. Its iterator counts
it, so the iterator is looked up in memory, once per saved state.
"""

import gc
from collections.abc import Callable
from typing import Any


def delivered_by_workers(dataset: Any, belongs: Callable[[int], bool]) -> int | None:
    """Return how many items of an iterable dataset were delivered in the current pass.

    Parameters
    ----------
    dataset
        The dataset of the data loader. Its workers yield every n-th item each.
    belongs
        Whether an iterator with this base seed is that of the pass.

    Returns
    -------
    None if no iterator of the pass is in memory, there are several, or items are not delivered one
    by one in order. After the last item, the number may be larger than that of the items.
    """
    found = {}
    for each in gc.get_referrers(dataset):  # the iterator, or the dictionary of its attributes
        known = each if isinstance(each, dict) else getattr(each, "__dict__", {})
        if (
            known.get("_dataset") is dataset
            and "_rcvd_idx" in known
            and belongs(known["_base_seed"])
        ):
            found[id(known)] = known
    if len(found) != 1:
        return None
    (iterator,) = found.values()
    in_order = iterator.get("_in_order", True)  # new in torch 2.6
    if not in_order or iterator["_auto_collation"]:
        return None
    return int(iterator["_rcvd_idx"])
