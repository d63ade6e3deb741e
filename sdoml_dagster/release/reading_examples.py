"""Examples for the dataset card that read a release with other libraries."""

import json
from collections.abc import Sequence

from sdoml_dagster.release.description import ReleaseDescription

_NOT_UNIFORM = """
Hugging Face's builder requires that the first samples of the first shard have the same members. In
this release, they have different channels. To use `datasets`, make a release with `complete_only`.
"""

_HUGGING_FACE = """
With Hugging Face datasets (keys keep the case of the member names):

```python
from datasets import load_dataset
dataset = load_dataset("webdataset", data_files="{name}/{glob}", split="train", streaming=True)
sample = next(iter(dataset))  # sample["{key}"]
```
"""

_WEBDATASET = """With webdataset (sequential, from disks or object stores):

```python
import webdataset as wds
dataset = wds.WebDataset("{name}/{braces}", shardshuffle=False).decode()
sample = next(iter(dataset))  # sample["{lower}"], sample["__key__"]
```
"""

_NUMPY = """
With only Python's tarfile and NumPy:

```python
import io, tarfile, numpy
with tarfile.open("{name}/{shard}") as tar:
    frame = numpy.load(io.BytesIO(tar.extractfile("{member}").read()))
```
"""

_COMPACT_WEBDATASET = """The members are FITS files, which astropy reads. With webdataset \
(sequential, from disks or object stores):

```python
import io
import webdataset as wds
from astropy.io import fits

def decode_fits(key, data):
    return fits.getdata(io.BytesIO(data)).astype("float32") if key.endswith(".fits") else None

dataset = wds.WebDataset("{name}/{braces}", shardshuffle=False).decode(decode_fits)
sample = next(iter(dataset))  # sample["{lower}"], sample["__key__"]
```
"""

_COMPACT_HUGGING_FACE = """
With Hugging Face datasets 3.4 or later (keys keep the case of the member names). By default, this
library opens FITS files with Pillow, which cannot read compressed FITS files. Turn this decoding
off:

```python
import io
from astropy.io import fits
from datasets import load_dataset
dataset = load_dataset("webdataset", data_files="{name}/{glob}", split="train", streaming=True)
sample = next(iter(dataset.decode(False)))
frame = fits.getdata(io.BytesIO(sample["{key}"]["bytes"]))
```
"""

_ASTROPY = """
Row 0 is in the north, so viewers such as DS9 show the south at the top. With Python's tarfile and
astropy:

```python
import io, tarfile
from astropy.io import fits
with tarfile.open("{name}/{shard}") as tar:
    frame = fits.getdata(io.BytesIO(tar.extractfile("{member}").read()))
```
"""

_SPLITS = """
Each shard belongs to one split, and `splits.json` lists the ranges and shards of each split.
`load_dataset("{name}")` reads the splits from the start of this file. To load a split with
sdoml-lite:

```python
from sdoml_core.loader import SDOMLlite
parts = SDOMLlite("{name}", channels={channels}).split()
image, time = parts["{split}"][0]
```
"""

_OTHERS = """
Other libraries:

- **Ray Data**: `ray.data.read_webdataset("{name}", file_extensions=["tar"])`. Without the argument
  `file_extensions`, Ray also opens the Parquet and JSON files.
- **Hugging Face**: keys have the case of the member names, such as `{key}`. webdataset converts
  them to lowercase.
- **Lightning**: return a `sdoml_core.loader.BatchLoader` from `train_dataloader`. It shuffles,
  reads and resumes by itself, so do not pass a sampler or workers.
- **wids** (part of webdataset before 1.0): `widsindex create "{name}"/*.tar > index.json`, then
  `wids.ShardListDataset("index.json")`.
"""


def brace_glob(shards: Sequence[str]) -> str:
    """Return the file names of numbered shards in webdataset notation: ``name-{01..10}.tar``."""
    if len(shards) == 1:
        return shards[0]
    stem, _, number = shards[0][:-4].rpartition("-")
    return f"{stem}-{{{number}..{len(shards):0{len(number)}d}}}.tar"


def reading_examples(release: ReleaseDescription) -> str:
    """Return the section *Loading* of a card."""
    shards = release.splits[0].shards if release.splits else release.shards
    wildcard = f"{shards[0][:-4].rpartition('-')[0]}-*.tar" if release.splits else "*.tar"
    key = release.member.split(".", 1)[1]
    name, channels = release.name, json.dumps(list(release.channels))
    compact = release.encoding is not None
    hub = _NOT_UNIFORM
    if release.uniform_start:
        hub = (_COMPACT_HUGGING_FACE if compact else _HUGGING_FACE).format(
            name=name, key=key, glob=wildcard
        )
        if not release.all_complete:
            hub += (
                "\nIf a sample lacks a channel, its value is `None`. PyTorch's default collate\n"
                "function, `to_tuple` and `batched` fail on such samples. To use them, make a\n"
                "release with `complete_only`.\n"
            )
    by_split = ""
    if release.splits:
        first = release.splits[0].name
        by_split = _SPLITS.format(name=name, channels=channels, split=first)
    webdataset = (_COMPACT_WEBDATASET if compact else _WEBDATASET).format(
        name=name, braces=brace_glob(shards), lower=key.lower()
    )
    plain = (_ASTROPY if compact else _NUMPY).format(
        name=name, shard=release.shards[0], member=release.member
    )
    needs = " For this release, it needs the extra `compact`." if compact else ""
    return f"""## Loading

`{name}` is this folder. The sdoml-lite loader has random access by index and by time, and reads
only the requested channels.{needs}

```python
from sdoml_core.loader import SDOMLlite
dataset = SDOMLlite("{name}", channels={channels})
image, time = dataset[0]  # the first sample that has all of these channels
```
{by_split}
{webdataset}{hub}{plain}{_OTHERS.format(name=name, key=key)}"""
