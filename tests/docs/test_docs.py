"""The documentation is correct: commands, snippets, names, links and columns."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

import sdoml_core.formats.index
from sdoml_core.formats.ledger import FRAME_TABLE, RAW_LEDGER, STATUSES, TableFormat
from sdoml_core.frames.flags import VOCABULARY
from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings.errors import PREFIX
from sdoml_dagster.settings.model import Settings
from tests.support.commands import install_scripts

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = {page: str(page.relative_to(ROOT)) for page in PAGES}
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)

NOT_RUN = {
    r"make |bash \.ci/run|pre-commit ": "has its own test, or runs the tests",
    r"(\.venv/bin/)?(python -m )?pip |apt-get ": "would change the installed packages",
    r"docker|cp \.env|\$EDITOR": "needs a Docker daemon; tests/cluster tests the deployment",
    r"kubectl|helm|kind ": "needs a Kubernetes cluster",
    r"sbatch|srun|squeue|scancel|sacct": "needs Slurm; tests/cluster runs the script itself",
    r"(\.venv/bin/)?(dagster dev|dagster-daemon|dagster-webserver)": "runs until it is stopped",
    r"pg_dump|psql|createdb|redis|systemctl|journalctl|crontab|rclone|aws |mc |rsync ": (
        "needs a service or another host"
    ),
    r"git ": "changes a checkout",
    r"hf ": "uploads to the Hugging Face Hub",
    r"torchrun |python train_": "test_recipes.py runs these scripts",
    r"find .* -delete": "test_old_event_logs.py runs it",
}
"""Patterns of shell commands that are not run here, with the reasons."""

NOT_RUN_PAGES = {
    "docs/deploy.md": "needs hosts, containers or clusters; see tests/cluster and tests/e2e",
}

NOT_RUN_PYTHON_PAGES = {
    "docs/live.md": "test_live_example.py runs it on a simulated near-real-time tree",
    "docs/example-xray-flux.md": "test_example.py runs it on a simulated release",
    "docs/recipes.md": "test_recipes.py runs each recipe",
}

OF_A_STORE = {"docs/storage.md", "docs/exports.md", "docs/encoding.md"}
"""Pages for readers who already have a store."""

NOT_RUN_PYTHON = {
    "s3://my-bucket": "there is no such bucket; tests/sdoml_core/loader/test_remote.py simulates S3"
}


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for name, body in BLOCK.findall(page.read_text()) if name in languages]


def commands(page: Path) -> list[str]:
    """Return the shell commands on a page, with continued lines joined and comments removed."""
    joined = "\n".join(blocks(page, "sh", "bash", "shell")).replace("\\\n", " ")
    lines = (line.partition("  #")[0].strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def is_run(command: str) -> bool:
    return not any(re.match(pattern, command) for pattern in NOT_RUN)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, archive: object) -> Path:
    """A folder like a user's checkout, with two built days."""
    folder = tmp_path_factory.mktemp("reader")
    prepare(folder)
    script = """
        for day in 2024-03-08 2024-03-09; do
            .venv/bin/dagster asset materialize -m sdoml_dagster.definitions \
                --select '*' --partition $day
        done
    """
    run_shell(script, folder, archive)
    return folder


def prepare(folder: Path, page: Path | None = None) -> None:
    """Prepare the folder in which a reader would work.

    Each command in the README runs in a new interpreter. Commands on other pages do not.
    """
    if page == ROOT / "README.md":
        (folder / ".venv").symlink_to(sys.prefix)
    else:
        programs = folder / ".venv/bin"
        programs.mkdir(parents=True)
        for path in (*Path(sys.prefix).iterdir(), *Path(sys.prefix, "bin").iterdir()):
            if path.name != "bin":
                (folder / ".venv" / path.relative_to(sys.prefix)).symlink_to(path)
        install_scripts(programs, "dagster", "sdoml")
    (folder / "sdoml_dagster").symlink_to(ROOT / "sdoml_dagster")
    for name in ("workspace.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)  # a copy, because a snippet may write to it


def run_shell(script: str, folder: Path, archive: object) -> str:
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(PREFIX) and name != "DAGSTER_HOME"
    }
    variables |= {
        "SDOML_START": "2024-03-08",
        "SDOML_END": "2024-03-10",
        "SDOML_CADENCE_MINUTES": "360",
        "SDOML_RESOLUTION": "64",
        "SDOML_THREADS": "2",
        "SDOML_ATTEMPTS": "2",
        "SDOML_RETRY_DELAY": "0",
        "SDOML_AIA_ROOTS": archive.aia_root,  # type: ignore[attr-defined]
        "SDOML_HMI_ROOTS": archive.hmi_root,  # type: ignore[attr-defined]
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(  # noqa: PLW1510 the output says more than an exception
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}"
    return done.stdout


RUNNABLE = [
    page
    for page in PAGES
    if NAMES[page] not in NOT_RUN_PAGES and any(is_run(command) for command in commands(page))
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUNNABLE, ids=NAMES.get)
def test_documented_shell_commands_run(
    page: Path, tmp_path: Path, archive: object, request: pytest.FixtureRequest
) -> None:
    if NAMES[page] in OF_A_STORE:
        built = request.getfixturevalue("built")
        shutil.copytree(built, tmp_path, symlinks=True, dirs_exist_ok=True)
    else:
        prepare(tmp_path, page)
    for body in blocks(page, "yaml"):
        if name := re.match(r"# (\w+\.yaml)\n", body):
            (tmp_path / name[1]).write_text(body)
    mount = tmp_path / "dataset_raw"
    mount.mkdir()
    lines = [command for command in commands(page) if is_run(command)]
    script = "\n".join(lines).replace("/mnt/sdo/dataset_raw", str(mount))
    run_shell(script, tmp_path, archive)


OTHER_NAMES = {
    "my-sun/releases/my-sun": "data/releases/sdoml-lite",
    ".demo/store": "data",
}
"""Names that some pages use for folders in `built`."""

WITH_PYTHON = [
    page
    for page in PAGES
    if NAMES[page] not in NOT_RUN_PAGES | NOT_RUN_PYTHON_PAGES and blocks(page, "python")
]


# Some snippets read shards without indexes.
@pytest.mark.filterwarnings("ignore:the 2 shards in .*/sdoml-lite have no index")
@pytest.mark.parametrize("page", WITH_PYTHON, ids=NAMES.get)
def test_documented_python_snippets_run(
    page: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(built / "data", tmp_path / "data")
    for name, folder in OTHER_NAMES.items():  # in the README and the tutorial
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).symlink_to(tmp_path / folder)
    bare = tmp_path / "sdoml-lite"  # shards without indexes, as other projects publish them
    bare.mkdir()
    for tar in (built / "data/shards").rglob("*.tar"):
        shutil.copy(tar, bare)
    monkeypatch.chdir(tmp_path)
    snippets = [
        snippet
        for snippet in blocks(page, "python")
        if not any(reason in snippet for reason in NOT_RUN_PYTHON)
    ]
    names: dict[str, object] = {}
    with patch.dict(os.environ):  # remove variables that a snippet sets
        for snippet in snippets:
            exec(compile(snippet, NAMES[page], "exec"), names)


def test_documented_reader_agrees_with_the_loader(built: Path) -> None:
    from sdoml_core.loader import SDOMLlite

    snippet = blocks(ROOT / "docs/format.md", "python")[-1]
    snippet = snippet.replace('"data/', f'"{built}/data/')
    names: dict[str, object] = {}
    exec(compile(snippet, "docs/format.md", "exec"), names)
    folder = built / "data/releases/sdoml-lite"
    image, _ = SDOMLlite(folder, ["AIA_0193"])["2024-03-08T12:00"]
    assert (names["frame"] == image[0].numpy()).all()


def rows_of(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table after a heading."""
    below = text.partition(f"\n{heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table is not None, heading
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(
    ("table", "heading"),
    [
        (RAW_LEDGER, "## Raw frames and their ledger"),
        (FRAME_TABLE, "## Processed frames and their table"),
    ],
)
def test_format_page_lists_ledger_columns(table: TableFormat, heading: str) -> None:
    documented = rows_of((ROOT / "docs/format.md").read_text(), heading)
    assert documented == [[f"`{c.name}`", c.type, c.description] for c in table.columns]


def test_format_page_lists_index_columns() -> None:
    documented = rows_of((ROOT / "docs/format.md").read_text(), "## Index of a shard")
    schema = sdoml_core.formats.index.INDEX_SCHEMA
    assert [row[:2] for row in documented] == [
        [f"`{field.name}`", str(field.type)] for field in schema
    ]


def test_format_page_explains_every_flag() -> None:
    documented = rows_of((ROOT / "docs/format.md").read_text(), "### Flags")
    assert documented == [
        [str(flag.bit), f"`{flag.name}`", ", ".join(f"`{m}`" for m in flag.measures), flag.meaning]
        for flag in VOCABULARY
    ]


def test_format_page_explains_every_status() -> None:
    text = (ROOT / "docs/format.md").read_text()
    table = text.partition("`status` is one of")[2]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)[: len(STATUSES)]) == STATUSES


def mentioned() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for name in re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", page.read_text()):
            yield NAMES[page], name


def test_mentioned_settings_exist() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= {f"{PREFIX}CONFIG"}
    deployed = "".join(
        path.read_text(errors="ignore")
        for folder in ("docker", "deploy")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    )
    unknown = [(page, name) for page, name in mentioned() if name not in known]
    assert [found for found in unknown if found[1] not in deployed] == []


def test_settings_page_documents_every_default() -> None:
    documented = {
        row[0].strip("`"): row[1]
        for row in rows_of((ROOT / "docs/settings.md").read_text(), "```")
        if row[0].startswith("`")
    }
    assert set(documented) == {PREFIX + name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        shown = documented[PREFIX + name.upper()].strip("`")
        if isinstance(field.default, str | int | float):
            is_float = isinstance(field.default, float)
            assert shown == (f"{field.default:g}" if is_float else str(field.default)), name


def test_glossary_names_exist_in_the_code() -> None:
    defs = build_defs(Settings(start="2024-03-01"))
    graph = defs.resolve_asset_graph()
    assets = {key.to_user_string() for key in graph.materializable_asset_keys}
    external = {key.to_user_string() for key in graph.external_asset_keys}
    jobs = {job.name for job in defs.jobs or ()}
    text = (ROOT / "docs/glossary.md").read_text()
    glossary = dict(re.findall(r"^\| (\w+) \| .*?: (`.*?`)\.", text, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", glossary["asset"])) == assets
    assert external == {"jsoc_aia", "jsoc_hmi", "live_frames", "live_shards"}
    assert all(f"`{name}`" in text for name in external)
    named = set(re.findall(r"`(\w+)`", glossary["job"]))
    assert named <= jobs
    assert "daily_update_schedule" in {schedule.name for schedule in defs.schedules or ()}


def test_links_are_not_broken() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (
                anchor and file.suffix == ".md" and anchor not in anchors(file)
            ):
                broken.append((NAMES[page], target))
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the IDs of headings that MkDocs creates."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    words = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[-\s]+", "-", word) for word in words}


def test_mentioned_modules_exist() -> None:
    import importlib.util

    absent = []
    for page in PAGES:
        for name in re.findall(r"`((?:sdoml_core|sdoml_dagster)(?:\.\w+)+)`", page.read_text()):
            module, last = name, ""
            while not _importable(module):
                module, _, last = module.rpartition(".")
            if last and not hasattr(importlib.import_module(module), last):
                absent.append((NAMES[page], name))
    assert absent == []


def _importable(name: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_github_files_are_valid_yaml() -> None:
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / "CITATION.cff"]
    assert len(files) >= 4
    for file in files:
        assert yaml.safe_load(file.read_text())


def test_citation_has_the_current_version() -> None:
    from sdoml_core import __version__

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_every_benchmark_can_be_imported(path: Path) -> None:
    importlib.import_module(f"benchmarks.{path.stem}")
