"""What long work says on its way."""

from sdoml_dagster.progress import Progress


def test_it_says_what_begins_and_each_tenth_of_the_way() -> None:
    lines: list[str] = []
    progress = Progress("raw_aia 2024-03-08", 30, lines.append)
    assert lines == ["raw_aia 2024-03-08: 30 frames"]
    for number in range(30):
        progress.step("missing" if number == 0 else "ok")
    assert len(lines) == 11
    assert lines[1].startswith("raw_aia 2024-03-08: 3/30 frames, 1 missing, ")
    assert lines[-1].startswith("raw_aia 2024-03-08: 30/30 frames, 1 missing, ")


def test_work_of_no_steps_says_so() -> None:
    lines: list[str] = []
    Progress("shards 2024-03-08", 0, lines.append)
    assert lines == ["shards 2024-03-08: 0 frames"]
