"""Find how many items a ``DataLoader`` with workers has delivered to the training loop.

A ``DataLoader`` does not tell its dataset or sampler how many items it has delivered. Its iterator
counts them. We therefore look up the iterator in memory, once per saved state.
"""

import gc
from collections.abc import Callable
from typing import Any


def delivered_by_workers(dataset: Any, belongs: Callable[[int], bool]) -> int | None:
    """Return how many items of an iterable dataset were delivered in the current pass.

    Parameters
    ----------
    dataset
        The dataset of the data loader. Each worker yields every n-th item.
    belongs
        Returns whether an iterator with this base seed belongs to the pass.

    Returns
    -------
    The number of items. None if memory does not contain exactly one iterator of the pass, or if
    items are not delivered one by one in order. After the last item, the result may exceed the
    number of items.
    """
    found = {}
    # A referrer is either the iterator or its attribute dictionary.
    for each in gc.get_referrers(dataset):
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
