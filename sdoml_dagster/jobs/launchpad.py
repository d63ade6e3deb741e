"""Fill the launchpad of a job. Otherwise it opens empty and shows no fields."""

from typing import Any

import dagster as dg


def default_run_config(op: str, config: type[dg.Config]) -> dict[str, Any]:
    """Return run config of one op that has every field with its default.

    Parameters
    ----------
    op
        Name of the op; for an asset, its key with ``__`` between the parts.
    config
        Config of the op. Each field needs a default.
    """
    values = {name: field.default for name, field in config.model_fields.items()}
    return {"ops": {op: {"config": values}}}
