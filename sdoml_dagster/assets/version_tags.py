"""Create the materialization tags from which Dagster determines what is stale.

Dagster sets these tags for the outputs of a step. Materializations that are recorded in other ways,
such as a finished day of a range or an adopted store, also need them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    DEFAULT_DATA_VERSION,
    NULL_EVENT_POINTER,
    extract_data_version_from_entry,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.event_api import EventLogRecord


@dataclass(frozen=True, slots=True)
class Input:
    """The version of an upstream asset that a materialization used."""

    version: str = DEFAULT_DATA_VERSION.value
    storage_id: int | None = None
    """ID of the event that recorded the version."""

    @classmethod
    def of(cls, record: EventLogRecord | None) -> Self:
        """Return the input that an asset's latest event describes."""
        if record is None:
            return cls()
        version = extract_data_version_from_entry(record.event_log_entry)
        return cls((version or DEFAULT_DATA_VERSION).value, record.storage_id)


def version_tags(
    data_version: str, code_version: str, inputs: Mapping[dg.AssetKey, Input]
) -> dict[str, str]:
    """Return the tags of one materialization."""
    tags = {
        DATA_VERSION_TAG: data_version,
        CODE_VERSION_TAG: code_version,
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
    }
    for key, used in inputs.items():
        tags[get_input_data_version_tag(key)] = used.version
        pointer = NULL_EVENT_POINTER if used.storage_id is None else str(used.storage_id)
        tags[get_input_event_pointer_tag(key)] = pointer
    return tags
