"""The processes of a gloo group share each epoch, even if they create their loaders first."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter

import pytest

from sdoml_core.loader import SDOMLlite

pytestmark = pytest.mark.slow  # starts processes that import torch


def run_ranks(size, module, *arguments):
    """Run a module as all ranks of a job; return the JSON that each rank prints."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ranks = []
    for rank in range(size):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ranks.append(
            subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | place | {"OMP_NUM_THREADS": "1"},
            )
        )
    try:
        outputs = [rank.communicate(timeout=280)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * size
    return [json.loads(output.splitlines()[-1]) for output in outputs]


@pytest.fixture(scope="module", params=[2, 3])
def world(request, release, tmp_path_factory):
    """The results from all ranks."""
    rendezvous = tmp_path_factory.mktemp("gloo") / "rendezvous"
    return run_ranks(request.param, "tests.support.gloo_ranks", str(release), str(rendezvous))


@pytest.fixture(scope="module")
def expected(release):
    return Counter(str(time) for time in SDOMLlite(release, ["AIA_0211"]).times)


def seen(ranks, name, epoch):
    return Counter(time for rank in ranks for batch in rank[name][epoch] for time in batch)


def test_each_sample_is_used_once_in_equal_numbers_of_steps(world, expected):
    styles = [name for name in world[0] if name not in {"twice", "once", "own", "alone"}]
    assert len(styles) == (7 if len(world) == 2 else 5)
    for name in styles:
        for epoch in range(2):
            assert seen(world, name, epoch) == expected, (name, epoch)
            assert len({len(rank[name][epoch]) for rank in world}) == 1
        assert world[0][name][0] != world[0][name][1]


def test_rank_that_completes_an_epoch_alone_gets_a_warning(world):
    first, second = world[0]["alone"]
    assert len(first) == 1
    assert f"completed epoch 0 when only 1 of {len(world)} ranks had begun it" in first[0]
    assert second == []
    assert all(rank["alone"] == [[], []] for rank in world[1:])


def test_accelerate_does_not_divide_batches_twice(world, expected):
    pytest.importorskip("accelerate")
    if len(world) != 2:
        return
    for rank in world:
        assert "Create the sampler with rank=0 and world_size=1" in rank["twice"][0][0][0]
    # Accelerate repeats batches so that all ranks have the same number; BatchLoader does not.
    assert seen(world, "once", 0).keys() == expected.keys()
    assert seen(world, "own", 0) == expected


def test_lightning_reads_each_sample_once_and_reshuffles_every_epoch(release, expected):
    pytest.importorskip("lightning")
    ranks = run_ranks(2, "tests.support.lightning_ranks", str(release))
    for name in ranks[0]:
        for epoch in range(2):
            assert seen(ranks, name, epoch) == expected, (name, epoch)
            assert len({len(rank[name][epoch]) for rank in ranks}) == 1
        assert ranks[0][name][0] != ranks[0][name][1]
