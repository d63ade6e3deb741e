"""`SDOMLlite`: a map-style PyTorch dataset that is indexed by integer or by time."""

import copy
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Subset, get_worker_info

from sdoml_core.errors import DatasetError
from sdoml_core.formats.holes import decode_holes
from sdoml_core.frames.flags import flag_mask, flag_names
from sdoml_core.frames.grid import GEOMETRIC_SCALE
from sdoml_core.loader.arguments import check_counts
from sdoml_core.loader.coverage import Coverage, cadence_of, count_coverage, describe
from sdoml_core.loader.physical import Conversion, Statistics, convert_tensor, measure
from sdoml_core.loader.reading.buffers import Buffers
from sdoml_core.loader.reading.collate import Sample, Samples, TargetValues, collate
from sdoml_core.loader.reading.prefetch import Pending
from sdoml_core.loader.reading.reader import FrameReader
from sdoml_core.loader.reading.units import Units, check_units, convert, restore
from sdoml_core.loader.selection import Selection, check_channels
from sdoml_core.loader.splits import NO_GUARD, Splits, month_ranges, release_splits
from sdoml_core.loader.storage.catalog import Catalog
from sdoml_core.loader.storage.local import RangeFiles
from sdoml_core.loader.storage.open_folder import open_catalog, open_files, without_missing_shards
from sdoml_core.loader.storage.range_cache import DEFAULT_BYTES
from sdoml_core.loader.storage.several import merge
from sdoml_core.loader.targets.matching import NO_TARGETS, Targets, check_targets, one_sample
from sdoml_core.loader.targets.series import TimeSeries
from sdoml_core.loader.timed_transform import TimedTransform
from sdoml_core.loader.times import Time, iso, parse_time

DEFAULT_CHANNELS: Final = ("HMI_M", "AIA_0131", "AIA_0171", "AIA_0193", "AIA_0211", "AIA_1600")
"""Default channels of the original loader, in the same order."""

NO_OFFSET: Final = np.zeros(1, "timedelta64[s]")
"""Time offset of the only frame in a sample. Only sequences have several frames."""

MISSING_SHARDS: Final = ("raise", "skip")


class SDOMLlite(Dataset[Sample]):
    """Dataset of solar images that is indexed by integer or by time.

    Samples are ``(tensor, time)``. The tensor is float32 of shape (C, H, W), with north up and the
    channels in the order of `channels`. The time is the slot as an ISO string in UTC, such as
    ``2022-11-01T00:15:00``. With ``metadata=True``, a third item contains the metadata of each
    frame, by channel. With `targets`, the last item is a dictionary with ``targets`` and
    ``target_mask``.

    Parameters
    ----------
    data_dir
        Folder or URL (``s3://…``, ``https://…``) of a release, of daily shards, or of tar files
        without an index. Member names can be in uppercase or lowercase. A list of folders is
        merged: folders with different times are concatenated, and folders with different channels
        are joined. The folders must have the same dtype, encoding and resolution, and the same
        constants for the channels that they share. No frame may be in more than one folder.
    channels
        Channel names. Tensors contain the channels in this order. Case is ignored.
    date_start, date_end
        Half-open range: datetime, date, ISO string or datetime64. Naive times are UTC.
    date_exclusions
        Half-open ranges (start, end) to leave out.
    exclude_flags
        Names of flags, such as ``("partial_disk", "short_exposure")``. A frame with one of these
        flags is treated as missing. `sdoml_core.frames.flags.FLAGS` explains each flag.
    units
        ``normalized`` does not convert any channel. ``dn`` converts AIA channels to DN/s per camera
        pixel (0.6″). Their largest value is then c/(1024/n)², where c is the normalization constant
        and n is the resolution. ``gauss`` converts HMI to gauss. ``physical`` does both. You can
        also pass a dictionary of units by channel, such as ``{"AIA_0193": "dn", "HMI_M":
        "gauss"}``. Other channels stay normalized.
    transform
        Called with each tensor. If the transform has a parameter ``time``, it also receives the
        sample's time as an ISO string.
    targets
        Dictionary of series to return with the images. The values of a sample are float32 scalars,
        and the masks are bool scalars. A sample is left out if a series has a gap at the sample's
        time, unless the series has ``gaps="mask"``. Values never depend on times outside the range
        that contains the sample, or within exclusions, even after a split.
    metadata
        Whether samples include metadata as a third item.
    verify
        Check every frame against the CRC-32 in the index. Shard sizes and frame headers are
        always checked.
    missing_shards
        What to do if a local release lacks some of its shards: ``raise`` raises an error that lists
        them, and ``skip`` opens the dataset without their samples.
    threads
        Number of threads that read a batch in parallel, outside worker processes. With 0 or 1,
        samples are read one after another.
    cache_dir
        Folder in which downloaded bytes and generated indexes are cached.
    cache_bytes
        Maximum size of the downloaded bytes in `cache_dir`, by default 100 GiB. If it is exceeded,
        the least recently used bytes are deleted.
    storage_options
        Options for fsspec if `data_dir` is a URL.

    Raises
    ------
    DatasetError
        If a channel is unknown, a range is empty, the requested data do not exist, or the folders
        cannot be merged.
    NormalizationError
        If a channel was normalized with different constants.
    DamagedFileError
        If an index or a shard is damaged.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        channels: Sequence[str] = DEFAULT_CHANNELS,
        date_start: Time | None = None,
        date_end: Time | None = None,
        date_exclusions: Iterable[tuple[Time, Time]] | None = None,
        *,
        exclude_flags: Iterable[str] = (),
        units: Units = "normalized",
        transform: Callable[..., Any] | None = None,
        targets: Mapping[str, TimeSeries] | None = None,
        metadata: bool = False,
        verify: bool = False,
        missing_shards: str = "raise",
        threads: int = 2,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: int = DEFAULT_BYTES,
        storage_options: dict[str, Any] | None = None,
    ):
        check_counts(threads=threads, cache_bytes=cache_bytes)
        if missing_shards not in MISSING_SHARDS:
            raise DatasetError(
                f"missing_shards must be {' or '.join(MISSING_SHARDS)}, not {missing_shards!r}"
            )
        sources = [data_dir] if isinstance(data_dir, str | os.PathLike) else list(data_dir)
        if not sources:
            raise DatasetError("data_dir is an empty list: pass at least one shard folder")
        folders = []
        for source in sources:
            files = open_files(
                source,
                storage_options=storage_options,
                cache_dir=cache_dir,
                cache_bytes=cache_bytes,
            )
            catalog = without_missing_shards(
                files, open_catalog(files, cache_dir=cache_dir), skip=missing_shards == "skip"
            )
            folders.append((files, catalog))
        ranges: RangeFiles
        ranges, catalog = folders[0] if len(folders) == 1 else merge(folders)
        self._folders = [files for files, _ in folders]
        self.channels = check_channels(channels, catalog.channels, ranges.root)
        self.reader = FrameReader(ranges, catalog, self.channels, units=units, verify=verify)
        self.reader.offsets = _without(catalog, self.channels, self.reader.offsets, exclude_flags)
        self.data_dir = ", ".join([os.fspath(source) for source in sources])
        self.transform = transform
        self._timed: TimedTransform | None = None
        self.metadata = metadata
        self.threads = threads
        self._facts = catalog.facts(self.channels) if metadata else None
        self._buffers = Buffers()
        self._moments: tuple[torch.Tensor, torch.Tensor] | None = None
        self.selection = Selection(
            catalog.slots,
            self.reader.offsets,
            self.channels,
            start=date_start,
            end=date_end,
            exclusions=() if date_exclusions is None else date_exclusions,
            source=self.data_dir,
        )
        self.targets = None if targets is None else check_targets(targets)
        self._keep_complete()

    def _keep_complete(self) -> None:
        """Leave out samples that lack a required target."""
        if self.targets is None:
            return
        matching = Targets(self.targets, cadence_of(self.reader.catalog.slots))
        complete = matching.complete(self.times, NO_OFFSET, self.selection)
        if not complete.any():
            raise DatasetError(f"none of the {len(self)} samples has all targets. {NO_TARGETS}")
        self.selection = self.selection.keep(complete)

    def within(self, ranges: Iterable[tuple[Time, Time]]) -> Self:
        """Return the part of the dataset within half-open ranges, without copying data.

        Raises
        ------
        DatasetError
            If the ranges contain no samples.
        """
        part = copy.copy(self)
        part._moments = None  # noqa: SLF001 a part has separate statistics
        part.selection = self.selection.within(ranges)
        part._keep_complete()  # noqa: SLF001 a target must not depend on times outside the part
        return part

    def at(self, times: Iterable[Time]) -> "Subset[Sample]":
        """Return the samples at the given times, in the given order, as a map-style dataset.

        Raises
        ------
        DatasetError
            If there is no sample at one of the times.
        """
        if isinstance(times, str | date | np.datetime64):
            raise DatasetError(f"at() needs a list of times, not {times!r}; use dataset[time]")
        rows = [self.selection.row_at(parse_time(time)) for time in times]
        return Subset(self, np.searchsorted(self.rows, rows).tolist())

    @property
    def constants(self) -> dict[str, dict[str, Any]]:
        """``constant`` and ``transform`` of each channel's normalization; None if unknown."""
        known = self.reader.catalog.constants
        absent = {"constant": None, "transform": None}
        return {name: dict(known.get(name, absent)) for name in self.channels}

    @property
    def mean(self) -> torch.Tensor:
        """Mean pixel value of each channel: float32, shape (C, 1, 1); see `statistics`.

        Up to 64 samples are read on first use. ``(image - train.mean) / train.std`` standardizes an
        image with the values of the training part.
        """
        return self._standardization()[0]

    @property
    def std(self) -> torch.Tensor:
        """Standard deviation of the pixel values of each channel, in the same shape as `mean`."""
        return self._standardization()[1]

    def _standardization(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self._moments is None:
            found = self.statistics().values()
            mean, std = ([getattr(one, name) for one in found] for name in ("mean", "std"))
            shape = (-1, 1, 1)
            self._moments = torch.tensor(mean).reshape(shape), torch.tensor(std).reshape(shape)
        return self._moments

    def statistics(self, samples: int = 64) -> dict[str, Statistics]:
        """Return the mean and the standard deviation of each channel.

        They are computed in the units of the dataset, before the transform. Call this method on the
        training part of a split.

        Parameters
        ----------
        samples
            Maximum number of samples to read. The samples are evenly spaced.
        """
        check_counts(1, samples=samples)
        numbers = np.unique(np.linspace(0, len(self) - 1, min(samples, len(self))).round())
        rows = self.rows[numbers.astype(np.int64)].tolist()
        return measure(self.reader.read, rows, self.channels, self.reader.shape)

    def to_physical(
        self, tensor: torch.Tensor | NDArray[Any], channels: Sequence[str] | None = None
    ) -> torch.Tensor:
        """Convert normalized values, such as predictions, to physical units.

        Parameters
        ----------
        tensor
            Normalized values, shape (..., C, H, W), as a tensor or a NumPy array. Values outside
            [0, 1] become 0 or 1.
        channels
            Names of the C channels. Defaults to the dataset's channels.

        Returns
        -------
        float32 tensor on the same device. AIA is in DN/s per camera pixel. HMI is in gauss, with
        NaN off the disk.

        Raises
        ------
        DatasetError
            If the tensor does not have these channels.
        NormalizationError
            If the constants are unknown.
        """
        return self._converted(torch.as_tensor(tensor).clamp(0, 1), channels, convert)

    def to_normalized(
        self, tensor: torch.Tensor | NDArray[Any], channels: Sequence[str] | None = None
    ) -> torch.Tensor:
        """Convert physical values to normalized values. This is the inverse of `to_physical`.

        Values above the constant or outside the field range are clipped. NaN becomes 0.
        """
        return self._converted(torch.as_tensor(tensor), channels, restore)

    def _converted(
        self, tensor: torch.Tensor, channels: Sequence[str] | None, conversion: Conversion
    ) -> torch.Tensor:
        catalog = self.reader.catalog
        names = (
            self.channels
            if channels is None
            else check_channels(channels, catalog.channels, self.data_dir)
        )
        check_units("physical", names, catalog.constants)
        return convert_tensor(tensor, names, catalog.constants, conversion, side=catalog.resolution)

    def split(
        self,
        ranges: Mapping[str, Iterable[tuple[Time, Time]]] | None = None,
        *,
        guard: timedelta = NO_GUARD,
    ) -> Splits[Self]:
        """Split by date ranges, with a gap between the parts. ``print`` displays a table of them.

        Parameters
        ----------
        ranges
            Half-open ranges for each part, by name. Defaults to the splits of the release.
        guard
            Minimum time between samples of different parts. The gap is removed from the part that
            is listed first.
        """
        if ranges is None:
            if len(self._folders) > 1:
                raise DatasetError(
                    "the dataset has several folders, so pass the date ranges of the splits"
                )
            ranges = release_splits(self._folders[0])
        return Splits.of(self, ranges, guard=guard)

    def split_by_months(
        self, months: Mapping[str, Iterable[int]], *, guard: timedelta = NO_GUARD
    ) -> Splits[Self]:
        """Split by months of the year, such as ``{"train": range(1, 9), "test": (11, 12)}``."""
        return Splits.of(self, month_ranges(self.times, months), guard=guard)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the samples in the catalog."""
        return self.selection.rows

    @property
    def times(self) -> NDArray[np.datetime64]:
        """Slots of the samples, ascending."""
        return self.selection.times

    @property
    def dates(self) -> list[datetime]:
        """Times of all samples as naive datetimes (UTC), as in the original dataset."""
        return [time.item() for time in self.times]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | Time) -> Sample:
        row = self.row_of(index)
        pixels = self._buffers.take(self.reader.shape)
        self.reader.read(row, pixels)
        return self.finish(row, torch.from_numpy(pixels))

    def __getitems__(self, indices: Sequence[int]) -> Samples:
        """Read several samples with threads into contiguous memory."""
        batch, reads = self._reads(indices)
        threads = 1 if get_worker_info() else min(self.threads, len(reads))
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                for future in [pool.submit(read) for read in reads]:
                    future.result()
        else:
            for read in reads:
                read()
        return self._samples(indices, batch)

    def pending(self, indices: Sequence[int]) -> Pending:
        """Return a batch of samples whose pixels have not been read yet, for `BatchLoader`."""
        batch, reads = self._reads(indices)
        return Pending(reads, lambda: collate(self._samples(indices, batch)))

    def _reads(self, indices: Sequence[int]) -> tuple[torch.Tensor, list[Callable[[], None]]]:
        """Allocate memory for a batch, and return it with the tasks that fill it."""
        pixels = self._buffers.take((len(indices), *self.reader.shape))
        rows = [self.row_of(index) for index in indices]
        reads: list[Callable[[], None]] = [
            partial(self.reader.read, row, out) for row, out in zip(rows, pixels, strict=True)
        ]
        return torch.from_numpy(pixels), reads

    def _samples(self, indices: Sequence[int], batch: torch.Tensor) -> Samples:
        rows = [self.row_of(index) for index in indices]
        targets = self._targets_of(rows)
        samples = Samples(
            self._sample(row, tensor, one_sample(targets, number))
            for number, (row, tensor) in enumerate(zip(rows, batch, strict=True))
        )
        samples.batch = batch if self.transform is None else None
        samples.items = 2 + self.metadata + bool(self.targets)
        return samples

    def finish(self, row: int, tensor: torch.Tensor) -> Sample:
        """Build the sample of a catalog row from its pixels."""
        return self._sample(row, tensor, one_sample(self._targets_of([row]), 0))

    def _sample(self, row: int, tensor: torch.Tensor, targets: dict[str, Any]) -> Sample:
        time = iso(self.reader.catalog.slots[row])
        if self.transform is not None:
            if self._timed is None or self._timed.transform is not self.transform:
                self._timed = TimedTransform(self.transform)
            value = self._timed(tensor, time)
        else:
            value = tensor
        items = [value, time]
        if self.metadata:
            items.append(self._facts_of(row))
        if targets:
            items.append(TargetValues(targets))
        return Sample(items)

    def _targets_of(self, rows: Sequence[int]) -> dict[str, dict[str, torch.Tensor]]:
        """Return the targets of the given rows, one value per row.

        Empty if there are no targets.
        """
        if not self.targets:
            return {}
        slots = self.reader.catalog.slots
        matching = Targets(self.targets, cadence_of(slots))
        found = matching.of(slots[list(rows)], NO_OFFSET, self.selection)
        return {
            kind: {name: values.reshape(len(rows)) for name, values in series.items()}
            for kind, series in found.items()
        }

    def row_of(self, index: int | Time) -> int:
        """Return the catalog row of a sample, given its index or time.

        Raises
        ------
        IndexError
            If the index is out of range.
        DatasetError
            If there is no sample at the time.
        """
        if isinstance(index, str | date | np.datetime64):
            return self.selection.row_at(parse_time(index))
        try:
            number = operator.index(index)
        except TypeError as error:
            raise DatasetError(
                f"a sample index must be a number, datetime or ISO string, not {index!r}"
            ) from error
        if not -len(self) <= number < len(self):
            raise IndexError(
                f"sample index {number} is out of range: there are {len(self)} samples"
            )
        return int(self.rows[number])

    def find(self, time: Time) -> int | None:
        """Return the index of the sample at a time, or None."""
        return self.selection.find(parse_time(time))

    def facts(self, index: int | Time) -> dict[str, dict[str, Any]]:
        """Return the metadata of each frame of a sample, by channel; see `frame_facts`.

        Parameters
        ----------
        index
            Index or time of the sample.
        """
        return self._facts_of(self.row_of(index))

    def _facts_of(self, row: int) -> dict[str, dict[str, Any]]:
        return {name: self.frame_facts(row, name) for name in self.channels}

    def frame_facts(self, row: int, channel: str) -> dict[str, Any]:
        """Return the metadata of one frame in a catalog row.

        The result has ``observed`` (ISO string), ``exposure`` (s), ``quality``, ``rsun_obs``
        (arcsec), ``degradation``, ``flags`` (tuple of names), ``missing`` (number of raw-frame
        pixels without data; see `mask`) and the disk measures: ``center_x``, ``center_y``,
        ``radius`` (pixels), ``visible``, ``brightness``, ``similarity``, ``sky``. Unknown values
        are None.
        """
        if self._facts is None:
            self._facts = self.reader.catalog.facts(self.channels)
        table = self._facts[channel]
        facts = {
            column: table.column(column)[row].as_py()
            for column in table.schema.names
            if column != "holes"
        }
        facts["flags"] = flag_names(facts["flags"])
        observed = facts["observed"]
        if observed is not None:
            observed = observed.astimezone(UTC).replace(tzinfo=None)
            facts["observed"] = observed.isoformat(timespec="milliseconds")
        return facts

    def mask(self, index: int | Time) -> torch.Tensor:
        """Return a mask of the pixels of a sample that have data.

        Returns
        -------
        bool tensor of shape (C, H, W). False for pixels that are 0 because they have no data.
        """
        row = self.row_of(index)
        if self._facts is None:
            self._facts = self.reader.catalog.facts(self.channels)
        side = self.reader.catalog.resolution
        masks = [
            decode_holes(table.column("holes")[row].as_py(), side) for table in self._facts.values()
        ]
        return torch.from_numpy(np.stack(masks))

    def coverage(self) -> Coverage:
        """Count the frames of each channel by month, over the range of the dataset."""
        return count_coverage(self.reader.catalog, self.selection.ranges, self.rows)

    def __repr__(self) -> str:
        return describe(self.data_dir, self.reader, self.selection)

    def plot_sample(self, index: int | Time = 0, path: str | os.PathLike[str] | None = None) -> Any:
        """Plot a sample with matplotlib, in the standard colormaps.

        If a path is given, the plot is saved to it. The transform is not applied.
        """
        from sdoml_core.loader.plots import plot_images

        row = self.row_of(index)
        pixels = np.empty(self.reader.shape, np.float32)
        self.reader.read(row, pixels)
        return plot_images(
            dict(zip(self.channels, pixels, strict=True)),
            title=f"{self.reader.catalog.slots[row]} UTC",
            normalized="gauss" not in self.reader.units,
            path=path,
        )

    def sunpy_map(
        self, index: int | Time, channel: str, *, hmi_scale: float = GEOMETRIC_SCALE
    ) -> Any:
        """Return one frame of a sample as a ``sunpy.map.GenericMap``, with world coordinates.

        AIA frames are in DN/s per camera pixel (0.6″). HMI frames are in gauss, with NaN off the
        disk. The dataset's units and transform are ignored. Row 0 of the map is in the south, as in
        FITS files, so the map contains the frame flipped vertically.

        Parameters
        ----------
        index
            Index or time of the sample.
        channel
            One of the channels of the dataset.
        hmi_scale
            Scale with which the HMI frames were processed, if ``SDOML_HMI_SCALE`` was a number.

        Raises
        ------
        DatasetError
            If there is no such sample or channel, or the shards have no index from this project.
        ImportError
            If sunpy is not installed.
        """
        from sdoml_core.loader.maps import sunpy_map

        return sunpy_map(self, index, channel, hmi_scale=hmi_scale)


def _without(
    catalog: Catalog, channels: Sequence[str], offsets: NDArray[np.int64], flags: Iterable[str]
) -> NDArray[np.int64]:
    """Return the frame offsets.

    The offset is −1 for missing frames and for frames with one of the flags.
    """
    if isinstance(flags, str):
        flags = (flags,)
    try:
        mask = flag_mask(flags)
    except ValueError as error:
        raise DatasetError(f"exclude_flags: {error}") from error
    if not mask:
        return offsets
    return np.where(catalog.flags(channels) & mask, -1, offsets)
