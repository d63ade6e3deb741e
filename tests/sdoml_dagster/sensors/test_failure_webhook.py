"""The failure sensor posts messages that say what failed and why."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings.model import Settings
from tests.support.runs import Materialize


def test_sensor_requires_a_webhook(settings: Settings) -> None:
    names = {sensor.name for sensor in build_defs(settings).sensors or ()}
    assert names == {"freshness_sensor", "day_range_sensor", "dead_runs_sensor"}


def test_failed_run_is_posted_with_day_and_reason(
    materialize: Materialize, instance: dg.DagsterInstance
) -> None:
    posted: list[dict[str, str]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            posted.append(json.loads(self.rfile.read(length)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    result = materialize("processed_hmi", day="2024-03-08")
    assert not result.success
    run = instance.get_run_by_id(result.run_id)
    (event,) = [e for e in result.all_events if e.event_type_value == "PIPELINE_FAILURE"]
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/hook"
        sensor = build_defs(Settings.load(failure_webhook=address)).resolve_sensor_def(
            "failure_sensor"
        )
        context = dg.build_run_status_sensor_context(
            sensor_name="failure_sensor",
            dagster_instance=instance,
            dagster_run=run,
            dagster_event=event,
        ).for_run_failure()
        sensor(context)
        thread.join(10)
    (message,) = posted
    assert message["partition"] == "2024-03-08"
    assert message["run_id"] == result.run_id
    assert "raw_hmi of 2024-03-08 is not in" in message["reason"]
    assert message["text"].startswith("sdoml-lite: run ")


def test_webhook_address_is_never_shown(environment: dict[str, str]) -> None:
    settings = Settings.load(failure_webhook="https://hooks.example/secret-path")
    sensor = build_defs(settings).resolve_sensor_def("failure_sensor")
    assert "hooks.example" in str(sensor.description)
    assert "secret-path" not in str(sensor.description)


def test_webhook_must_be_a_url(environment: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be an http:// or https:// address") as caught:
        Settings.load(failure_webhook="hooks.example/secret-path")
    assert "secret-path" not in str(caught.value)
