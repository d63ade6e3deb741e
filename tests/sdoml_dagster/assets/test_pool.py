"""The pool limits the total number of requests from all runs, as counted by the archive."""

from pathlib import Path

import pytest

from sdoml_demo.server import Archive
from tests.support.deployment import Deployment
from tests.support.runs import SMALL

DAYS = [f"2024-03-{day:02}" for day in range(1, 9)]
CONNECTIONS = 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pool_limit_is_never_exceeded(frame_cache: Path, tmp_path: Path) -> None:
    with Archive(cache=frame_cache, absences=False, latency=0.05) as archive:
        environment = SMALL | {
            "SDOML_START": DAYS[0],
            "SDOML_END": "2024-03-09",
            "SDOML_CADENCE_MINUTES": "120",
            "SDOML_CHANNELS": "HMI_M",
            "SDOML_DAYS_PER_RUN": "2",
            "SDOML_MAX_CONNECTIONS": str(CONNECTIONS),
            "SDOML_STORE": str(tmp_path / "store"),
            "SDOML_HMI_ROOTS": archive.hmi_root,
            "DAGSTER_HOME": str(tmp_path / "dagster"),
        }
        with Deployment(environment) as deployment:
            deployment.limit_pool("jsoc", 1)
            found = deployment.wait(deployment.launch(["raw_hmi"], DAYS), timeout=600)
        assert found["status"] == "COMPLETED_SUCCESS"
        assert len(found["runs"]) == 4
        assert len(list((tmp_path / "store/raw").rglob("*.jpg"))) == 12 * len(DAYS)
        assert archive.log.max_in_flight <= CONNECTIONS
