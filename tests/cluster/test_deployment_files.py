"""Properties of the deployment files in ``docker/`` that can be checked without running them."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.cluster.deployment import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
LONG_RUNNING = [name for name in COMPOSE["services"] if name != "bucket"]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_services_have_restart_policies_health_checks_and_limits(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["restart"] == "unless-stopped"
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    if name != "code":  # for `code`, the image defines the health check
        assert service["healthcheck"]["test"]


def test_ports_are_published_only_on_loopback() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker/compose.yaml").read_text()
    for name in (
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ):
        uses = re.findall(rf"\$\{{{name}(.*?)}}", text)
        assert uses
        assert all(use.startswith(":?") for use in uses)
    example = (ROOT / "docker/.env.example").read_text()
    assert re.findall(r"^(?:\w+PASSWORD|AWS_\w*KEY\w*)=(.*)$", example, re.MULTILINE) == [""] * 4


def test_workers_can_be_scaled() -> None:
    worker = COMPOSE["services"]["worker"]
    assert "container_name" not in worker
    assert "ports" not in worker


def test_docker_images_are_pinned() -> None:
    for service in COMPOSE["services"].values():
        image = service["image"]
        assert image == "sdoml-lite" or re.search(r":\d+\.\d+", image)


def test_image_installs_only_hashed_packages_and_no_torch() -> None:
    lock = (ROOT / "docker/requirements.lock").read_text()
    packages = re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    installed = ("pipeline", "s3", "postgres", "celery", "view")
    needed = [*project["dependencies"], *(name for extra in installed for name in extras[extra])]
    assert {re.split(r"[\[<>=]", name)[0] for name in needed} <= set(packages)
    assert "torch" not in packages
    assert lock.count("--hash=sha256:") >= len(packages)
