"""Build the dataset: archive client, store, pipeline, releases, and the Dagster layer."""

from importlib.util import find_spec

if find_spec("dagster") is None:  # missing in a light install such as sdoml-lite[loader]
    raise ImportError(
        "sdoml_dagster needs the extra 'pipeline': pip install 'sdoml-lite[pipeline]' "
        "(in a checkout: pip install -e '.[pipeline]')"
    )
