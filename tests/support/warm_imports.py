"""Prepare a process whose forks run Dagster: import libraries and create an instance once.

Each fork saves the three seconds of CPU time that a new process would need for this.
"""

import functools
import importlib
import io
import os
import sys
import tempfile

import dagster as dg
from alembic.config import Config
from alembic.script import ScriptDirectory
from PIL import Image

from sdoml_dagster.settings.errors import PREFIX

DEFINITIONS = "sdoml_dagster.definitions"
IMPORTED_LATE = (
    "dagster._cli", "dagster._daemon.controller", "dagster._grpc.server", "dagster_dg_cli.cli",
    "dagster_webserver.cli", "numba.cpython.charseq", "numba.np.arraymath", "pandas", "PIL.Image",
    "pyarrow.parquet", "requests", "sdoml_dagster.cli.main", "sdoml_dagster.pipeline.fetch",
    "sdoml_dagster.pipeline.pack", "sdoml_dagster.pipeline.process", "sdoml_dagster.release.build",
)  # fmt: skip
"""Modules that commands, services and runs import only when they need them."""


def read_migrations_once() -> None:
    """Make Dagster read its database migrations only once per process, not once per database."""
    read = ScriptDirectory.from_config

    @functools.cache
    def of_folder(folder: str) -> ScriptDirectory:
        config = Config()
        config.set_main_option("script_location", folder)
        return read(config)

    def from_config(config: Config) -> ScriptDirectory:
        return of_folder(str(config.get_main_option("script_location")))

    ScriptDirectory.from_config = staticmethod(from_config)  # type: ignore[method-assign]


def write_pngs_fast() -> None:
    """Compress a release's picture less. Compression takes most of the time of a small release."""

    def fast(image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    importlib.import_module("sdoml_dagster.release.build").png = fast


def import_code() -> None:
    """Import the modules that are otherwise imported late."""
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    write_pngs_fast()


def import_definitions() -> None:
    """Import everything that the definitions module imports, but discard the module itself.

    Each fork then imports the definitions with its own settings.
    """
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    import_code()
    importlib.import_module(DEFINITIONS)
    del sys.modules[DEFINITIONS]


def run_once() -> None:
    """Run an empty asset on a new instance."""
    read_migrations_once()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with (
        tempfile.TemporaryDirectory() as folder,
        dg.instance_for_test(temp_dir=folder) as instance,
    ):
        empty = dg.asset(name="empty")(lambda: None)
        dg.materialize([empty], instance=instance, run_config=quiet)
