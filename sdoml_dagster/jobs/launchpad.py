"""Prefill a job's launchpad, which would otherwise be empty and show no fields."""

from typing import Any

import dagster as dg


def default_run_config(op: str, config: type[dg.Config]) -> dict[str, Any]:
    """Return the run config of one op, with all fields at their defaults.

    Parameters
    ----------
    op
        Name of the op. For an asset, this is its key with ``__`` between the parts.
    config
        Config of the op. Every field must have a default.
    """
    values = {name: field.default for name, field in config.model_fields.items()}
    return {"ops": {op: {"config": values}}}
