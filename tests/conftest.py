"""Fixtures for all tests, and the handling of tests with unmet requirements.

Fixtures import large packages when they need them, because pytest's main process runs no tests with
``-n``.
"""

import os
import shutil
import signal
from collections.abc import Generator, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from tests.support.requirements import REQUIREMENTS, obstacle

if TYPE_CHECKING:
    from sdoml_dagster.settings.model import Settings
    from sdoml_demo.server import Archive
    from tests.support.day_deployment import Deploy

# The test servers run on this machine, so do not use a proxy. pip may still need HTTPS_PROXY.
for _name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
    os.environ.pop(_name, None)

# A shell starts background jobs with SIGINT ignored, and the tests' processes would inherit this.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Give tests the CPU priority of runs. Otherwise the tests that wait for runs would wait longer.
os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), 10))


def _memory_folder() -> None:
    """Put temporary folders in memory if enough memory is free.

    With its SQLite files in memory, Dagster needs a third less time for a run.
    """
    memory = Path("/dev/shm")
    if not memory.is_mount() or os.statvfs(memory).f_flag & (os.ST_NOEXEC | os.ST_RDONLY):
        return
    if shutil.disk_usage(memory).free >= 8 << 30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


_memory_folder()

# Set no deadline, because examples may be slow on a busy machine.
hypothesis.settings.register_profile("sdoml", deadline=None)
hypothesis.settings.load_profile("sdoml")


@pytest.fixture(scope="session")
def frame_cache(request: pytest.FixtureRequest) -> Path:
    """A folder that keeps rendered frames for later test runs."""
    return request.config.cache.mkdir("archive")  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def archive(frame_cache: Path) -> Iterator["Archive"]:
    """The simulated archive on a free port, without missing or bad frames."""
    from sdoml_demo.server import Archive

    with Archive(cache=frame_cache, absences=False) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def _quick_databases_and_pictures() -> None:
    from tests.support.warm_imports import read_migrations_once, write_pngs_fast

    read_migrations_once()
    write_pngs_fast()


@pytest.fixture(autouse=True)
def _no_instance_of_another_test() -> None:
    """Give each test its own context variable for Dagster's current instance.

    When an instance or context is closed or garbage-collected, it restores the variable's previous
    value. This may happen during a later test, so the test must not share the variable.
    """
    from dagster._core.storage.defs_state import base as defs_state

    defs_state._current_storage = ContextVar("_current_storage", default=None)


@pytest.fixture
def environment(
    archive: "Archive", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Set the environment variables of a small deployment with an empty store; return them."""
    from sdoml_dagster.instance.home import INSTANCE
    from sdoml_dagster.settings.errors import PREFIX
    from tests.support.runs import small_environment

    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(INSTANCE, home / "dagster.yaml")
    variables = small_environment(tmp_path, archive)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)  # the folder has no sdoml.toml
    return variables


@pytest.fixture
def settings(environment: dict[str, str]) -> "Settings":
    """The settings of the small deployment."""
    from sdoml_dagster.settings.model import Settings

    return Settings.load()


@pytest.fixture
def deploy(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "Deploy":
    """A function that creates a deployment with its own store. Its arguments are settings."""
    from sdoml_dagster.settings.model import Settings
    from tests.support.day_deployment import Deployment

    monkeypatch.setenv("SDOML_ATTEMPTS", "4")
    count = iter(range(100))

    def make(archive: "Archive | None" = None, **overrides: object) -> Deployment:
        if archive is not None:
            # Use two names of one host, so that the second mirror confirms a 404 from the first.
            other = archive.aia_root.replace("127.0.0.1", "localhost")
            overrides = {
                "aia_roots": (archive.aia_root, other),
                "hmi_roots": (archive.hmi_root,),
            } | overrides
        overrides = {"store": str(tmp_path / f"store{next(count)}")} | overrides
        return Deployment(Settings.load(**overrides))

    return make


_CLUSTERS = {"tests/cluster/test_cluster.py", "tests/cluster/test_faults.py"}


class _ByFile(LoadFileScheduling):
    """Schedules the tests of each file in one process, and only one cluster at a time.

    Two instances of SeaweedFS would share sockets in /tmp, which network namespaces do not isolate.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "clusters" if file in _CLUSTERS else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:
    """Replace pytest-xdist's scheduler (``pytest -n 3``), regardless of ``--dist``."""
    return _ByFile(config, log)


_SLOW_FOLDERS = {"cluster", "docs", "e2e", "faults", "fuzz", "packaging"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as slow if they fetch from the archive, start services or run programs.

    Files with slow tests run first, so that the last files to run are short.
    """
    slow = set()
    for item in items:
        folder = item.path.relative_to(item.config.rootpath).parts[1]
        fetches = "archive" in getattr(item, "fixturenames", ())
        if fetches or folder in _SLOW_FOLDERS or item.get_closest_marker("needs"):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow"):
            slow.add(item.path)
    items.sort(key=lambda item: item.path not in slow)


_MAY_NOT_SKIP = bool(os.environ.get("TESTS_MAY_NOT_SKIP"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test with unmet requirements, or fail it if skipping is not allowed."""
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            if missing := obstacle(name):
                reason = f"needs {name}: {missing}"
                pytest.fail(reason, pytrace=False) if _MAY_NOT_SKIP else pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Also turn all other skips into failures if skipping is not allowed."""
    report = yield
    if _MAY_NOT_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report how many tests were skipped, why, and how to install what they require."""
    skipped: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        skipped[reason] = skipped.get(reason, 0) + 1
    if not skipped:
        return
    terminalreporter.section("not tested")
    for reason, count in sorted(skipped.items()):
        name = reason.removeprefix("needs ").partition(": ")[0]
        remedy = f"; to run them: {REQUIREMENTS[name].remedy}" if name in REQUIREMENTS else ""
        terminalreporter.write_line(f"{count:4} tests  {reason}{remedy}")
