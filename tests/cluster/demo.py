"""``make cluster-demo``: the cluster's story on this machine, with what was seen at its end."""

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
    print(f"days by worker: {dict(seen.days_by_worker)}; the killed worker's on {seen.rerun_on}")
    print(f"the run that was cut off for 30 s: {seen.cut_run_ended}")
    print(*(m for m in seen.messages if "no sign of life" in m), sep="\n")
    print(
        f"at the archive: {seen.max_in_flight} requests at a time at most, "
        f"{seen.max_connections} connections until the cut; allowed: "
        f"pool of {POOL} × {CONNECTIONS} connections = {POOL * CONNECTIONS}"
    )
    same = not seen.different
    print(
        f"{seen.files} files,", "byte-identical to a single machine's" if same else seen.different
    )
    return 0 if same and seen.max_in_flight <= POOL * CONNECTIONS else 1


if __name__ == "__main__":
    sys.exit(main())
