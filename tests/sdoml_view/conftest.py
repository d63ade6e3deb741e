"""One release and one running viewer that all viewer tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.viewer import make_release, serving


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("viewer") / "my sun")


@pytest.fixture(scope="session")
def viewer(release: Path) -> Iterator[str]:
    with serving(release, at="2022-11-02T01:00") as url:
        yield url
