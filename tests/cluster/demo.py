"""``make cluster-demo``: run the cluster scenario on this machine and print what happened."""

import sys
import tempfile
from pathlib import Path

from tests.cluster.lan import Lan
from tests.cluster.scenario import CONNECTIONS, POOL, play
from tests.support.requirements import REQUIREMENTS, obstacle


def main() -> int:
    missing = obstacle("network namespaces")
    if missing:
        print(f"{missing}: {REQUIREMENTS['network namespaces'].remedy}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="sdoml-cluster-"))
    folder.chmod(0o755)
    print(f"logs: {folder}")
    with Lan(folder) as lan:
        seen = play(
            lan,
            cache=Path.home() / ".cache" / "sdoml-demo-archive",
            report=lambda text: print(text, flush=True),
        )
    print(f"days by worker: {dict(seen.days_by_worker)}")
    print(f"worker that rebuilt the killed worker's day: {seen.rerun_on}")
    print(f"status of the run whose worker was offline for 30 s: {seen.cut_run_ended}")
    print(*(m for m in seen.messages if "no heartbeat" in m), sep="\n")
    print(
        f"the archive saw at most {seen.max_in_flight} requests at a time and "
        f"{seen.max_connections} connections before the link was cut; limit: "
        f"pool of {POOL} × {CONNECTIONS} connections = {POOL * CONNECTIONS}"
    )
    same = not seen.different
    print(
        f"{seen.files} files,",
        "byte-identical to those from a single machine" if same else f"different: {seen.different}",
    )
    return 0 if same and seen.max_in_flight <= POOL * CONNECTIONS else 1


if __name__ == "__main__":
    sys.exit(main())
