"""How a release is read, by four libraries, as a section of its card."""

import json
from collections.abc import Sequence

UNLIKE = """
Hugging Face's builder wants the same members in the first samples of the first shard, which here
have different channels. A release made with `complete_only` can be read by it.
"""
HUGGING_FACE = """
With Hugging Face datasets:

```python
from datasets import load_dataset
dataset = load_dataset("webdataset", data_files="{name}/*.tar", split="train", streaming=True)
sample = next(iter(dataset))  # sample["{key}"]
```
"""


def loading(
    name: str,
    *,
    channels: Sequence[str],
    shards: Sequence[str],
    member: str,
    whole: bool,
    alike: bool,
) -> str:
    """The section.

    Parameters
    ----------
    name
        Folder of the release.
    channels, shards
        What it has.
    member
        Name of one member, as an example.
    whole
        Whether every sample has every channel.
    alike
        Whether the first samples have the same channels, which one of the libraries wants.
    """
    glob = shards[0]
    if len(shards) > 1:
        stem, _, number = shards[0][:-4].rpartition("-")
        glob = f"{stem}-{{{number}..{len(shards)}}}.tar"
    key = member.split(".", 1)[1]
    hub = HUGGING_FACE.format(name=name, key=key) if alike else UNLIKE
    if alike and not whole:
        hub += "\nA channel that a sample lacks is `None` there.\n"
    return f"""## Loading

Three lines each; `{name}` is this folder. With the loader of sdoml-lite (random access by
number or time, reads only the channels asked for):

```python
from sdoml_core.loader import SDOMLlite
dataset = SDOMLlite("{name}", channels={json.dumps(list(channels))})
image, time = dataset[0]  # the first sample that has them all
```

With webdataset (sequential, from disks or object stores):

```python
import webdataset as wds
dataset = wds.WebDataset("{name}/{glob}", shardshuffle=False).decode()
sample = next(iter(dataset))  # sample["{key.lower()}"], sample["__key__"]
```
{hub}
With Python's own tarfile and NumPy alone:

```python
import io, tarfile, numpy
with tarfile.open("{name}/{shards[0]}") as tar:
    frame = numpy.load(io.BytesIO(tar.extractfile("{member}").read()))
```
"""
