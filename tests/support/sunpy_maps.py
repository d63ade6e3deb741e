"""sunpy's maps, imported when they are first used, because the import takes two seconds."""

import warnings
from typing import Any


def import_sunpy_map() -> Any:
    """Return the module `sunpy.map`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reproject imports deprecated code
        import sunpy.map
    return sunpy.map


def sunpy_map(*arguments: Any) -> Any:
    """Return a map of a file, or of pixels and a header."""
    return import_sunpy_map().Map(*arguments)
