"""Command line of the simulated archive: ``python -m sdoml_demo``."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from sdoml_core.errors import SettingError
from sdoml_demo.clock import Clock
from sdoml_demo.faults import Fault, FaultPlan
from sdoml_demo.files import default_cache
from sdoml_demo.live_tree import LivePlan
from sdoml_demo.server import Archive


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m sdoml_demo",
        description="Serve a simulated JSOC archive with rendered frames for any date.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8300, help="port; 0 selects a free one (%(default)s)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=default_cache(),
        metavar="DIR",
        help="folder for rendered frames (%(default)s)",
    )
    parser.add_argument(
        "--latency",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="seconds to wait before each response (%(default)s)",
    )
    parser.add_argument(
        "--lag-days",
        type=float,
        default=0.0,
        metavar="DAYS",
        help="days until a frame is published; about 7 at the JSOC (%(default)s)",
    )
    parser.add_argument(
        "--complete",
        action="store_true",
        help="serve every frame, without the gaps and bad frames of the real archive",
    )
    parser.add_argument(
        "--faults",
        default="",
        metavar="PLAN",
        help="faults to simulate, for example 500=0.1,reset=0.05,attempts=1,seed=3. Kinds: "
        + ", ".join(fault.value for fault in Fault)
        + ", or all",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="also serve the near-real-time tree, where frames appear minutes after the exposure",
    )
    parser.add_argument(
        "--speed",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="simulated seconds per real second, starting at the current time (%(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        archive = Archive(
            host=options.host,
            port=options.port,
            cache=options.cache,
            latency=options.latency,
            lag_days=options.lag_days,
            absences=not options.complete,
            faults=FaultPlan.parse(options.faults),
            clock=Clock(speed=options.speed),
            live=LivePlan(absences=not options.complete) if options.live else None,
        )
    except SettingError as error:
        parser.error(str(error))
    except OSError as error:
        where = f"{options.host}:{options.port}"
        parser.exit(
            1, f"cannot listen on {where}: {error.strerror}; --port 0 selects a free port\n"
        )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with archive:
        print(f"export SDOML_AIA_ROOTS={archive.aia_root}", flush=True)  # noqa: T201
        print(f"export SDOML_HMI_ROOTS={archive.hmi_root}", flush=True)  # noqa: T201
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
