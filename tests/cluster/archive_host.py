"""Run the simulated archive on its host and count requests.

Four times a second, the program writes ``counts.json`` to the working folder and applies the
latency given in the file ``latency``.
"""

import json
import sys
import time
from pathlib import Path

from sdoml_demo.server import Archive


def main(host: str, port: str, cache: str) -> None:
    with Archive(host=host, port=int(port), cache=Path(cache)) as archive:
        while True:
            log = archive.log
            if Path("latency").exists():
                archive.latency = float(Path("latency").read_text() or 0)
            counts = {
                "requests": len(log.requests),
                "in_flight": dict(log.in_flight),
                "max_in_flight": log.max_in_flight,
                "max_open_connections": log.max_open_connections,
                "latency": archive.latency,
            }
            Path("counts.new").write_text(json.dumps(counts))
            Path("counts.new").replace("counts.json")
            if Path("reset").exists():
                Path("reset").unlink()
                log.max_in_flight = log.max_open_connections = 0
            time.sleep(0.25)


if __name__ == "__main__":
    main(*sys.argv[1:])
