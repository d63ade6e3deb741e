"""Sensor that posts a message to a webhook when a run fails."""

import json
import urllib.request
from urllib.parse import urlsplit

import dagster as dg

from sdoml_dagster.settings.model import Settings

TIMEOUT = 10
"""Seconds to wait for the webhook."""


def build_failure_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Build ``failure_sensor`` if ``SDOML_FAILURE_WEBHOOK`` is set; otherwise return nothing."""
    address = settings.failure_webhook
    if address is None:
        return []

    @dg.run_failure_sensor(
        name="failure_sensor",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Posts a JSON message to SDOML_FAILURE_WEBHOOK when a run of this code "
        f"location fails ({urlsplit(address).hostname}).",
    )
    def failure_sensor(context: dg.RunFailureSensorContext) -> None:
        post(address, failure_message(context, settings))

    return [failure_sensor]


def failure_message(context: dg.RunFailureSensorContext, settings: Settings) -> dict[str, str]:
    """Create the message: `text` for chat services such as Slack, and data for other receivers."""
    run = context.dagster_run
    steps = [
        event.step_failure_data.error.message.strip().partition("\n")[0]
        for event in context.get_step_failure_events()
        if event.step_failure_data.error
    ]
    reason = "; ".join(steps) or context.failure_event.message or "unknown reason"
    day = run.tags.get("dagster/partition") or run.tags.get(
        "dagster/asset_partition_range_start", ""
    )
    return {
        "text": f"{settings.name}: run {run.run_id[:8]} of {run.job_name} failed"
        f"{f' ({day})' if day else ''}: {reason}",
        "dataset": settings.name,
        "run_id": run.run_id,
        "job": run.job_name,
        "partition": day,
        "reason": reason,
    }


def post(address: str, message: dict[str, str]) -> None:
    """Send a message. If the response is not 2xx, the sensor tick fails and shows the error."""
    request = urllib.request.Request(  # noqa: S310 the setting allows only http and https
        address, json.dumps(message).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310
        pass
