"""Prefill a job's launchpad, which would otherwise open empty and show no fields."""

from typing import Any

import dagster as dg


def default_run_config(op: str, config: type[dg.Config]) -> dict[str, Any]:
    """Return one op's run config, with every field at its default.

    Parameters
    ----------
    op
        Name of the op; for an asset, its key with ``__`` between the parts.
    config
        Config of the op. Each field needs a default.
    """
    values = {name: field.default for name, field in config.model_fields.items()}
    return {"ops": {op: {"config": values}}}
