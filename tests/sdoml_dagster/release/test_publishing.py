"""Publishing on the Hugging Face Hub, as far as it can be tested without network access."""

import warnings
from pathlib import Path

import pytest

from tests.sdoml_dagster.release.test_release import build, make

hub = pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of complete samples, built as recommended for the Hub."""
    folder = tmp_path_factory.mktemp("published")
    make(folder, build(folder, [0, 1]), complete_only=True)
    return folder / "releases/sdoml-lite"


def test_card_is_a_valid_dataset_card(published: Path) -> None:
    card = hub.DatasetCard.load(published / "README.md")
    assert card.data.license == "cc0-1.0"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.pretty_name.startswith("sdoml-lite: ")
    assert isinstance(card.data, hub.DatasetCardData)
    # A round trip through the Hub's library keeps the metadata.
    again = hub.DatasetCard(str(card))
    assert again.data.to_dict() == card.data.to_dict()


def test_builder_configuration_of_the_card_is_valid(published: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metadata = pytest.importorskip("datasets.utils.metadata")
    card = hub.DatasetCard.load(published / "README.md")
    configs = metadata.MetadataConfigs.from_dataset_card_data(card.data)
    assert configs["default"]["data_files"] == [{"split": "train", "path": "*.tar"}]


def test_every_file_of_a_release_can_be_committed(published: Path) -> None:
    for path in published.iterdir():
        operation = hub.CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=str(path))
        assert operation.upload_info.size == path.stat().st_size


def test_published_samples_work_with_to_tuple_and_batched(
    published: Path,
) -> None:
    import webdataset

    urls = f"{published}/sdoml-lite-{{1..2}}.tar"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = webdataset.WebDataset(urls, shardshuffle=False).decode()
        batches = list(pipeline.to_tuple("aia_0171.npy", "hmi_m.npy").batched(3))
    assert sum(len(batch[0]) for batch in batches) == 10
