"""Transforms of target values and their inverses.

A transform with parameters is fitted to the training part only; see
:meth:`sdoml_core.loader.targets.TimeSeries.fitted`.
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import DatasetError

Values = NDArray[np.float64]


class Transform(Protocol):
    """An invertible elementwise function."""

    def fit(self, values: Values) -> Self:
        """Return a copy that is fitted to values. A transform without parameters returns itself."""

    def forward(self, values: Values) -> Values:
        """Return the transformed values."""

    def inverse(self, values: Values) -> Values:
        """Return the original values for transformed values."""


@dataclass(frozen=True, slots=True)
class Log10:
    """Logarithm to base 10, optionally followed by another transform.

    Parameters
    ----------
    floor
        Lower limit of the values, which must be positive. Smaller values are raised to this limit.
    then
        Transform that is applied to the logarithm, such as `Standardize`.
    """

    floor: float = 1e-9
    then: Transform | None = None

    def __post_init__(self) -> None:
        if not 0 < self.floor < np.inf:
            raise DatasetError(f"Log10: floor must be positive and finite, not {self.floor!r}")

    def fit(self, values: Values) -> "Log10":
        """Return a copy whose second transform is fitted to the logarithms."""
        if self.then is None:
            return self
        return replace(self, then=self.then.fit(self._log(values)))

    def forward(self, values: Values) -> Values:
        """Return the transformed values."""
        logarithm = self._log(values)
        return logarithm if self.then is None else self.then.forward(logarithm)

    def inverse(self, values: Values) -> Values:
        """Return the original values for transformed values."""
        return np.power(10.0, values if self.then is None else self.then.inverse(values))

    def _log(self, values: Values) -> Values:
        return np.log10(np.maximum(values, self.floor))


@dataclass(frozen=True, slots=True)
class Standardize:
    """Subtract the mean of the fitted values, and divide by their standard deviation."""

    mean: float | None = None
    std: float | None = None

    def fit(self, values: Values) -> "Standardize":
        """Return a copy fitted to values.

        Raises
        ------
        DatasetError
            If there are no values, or all of them are equal.
        """
        if not values.size:
            raise DatasetError("Standardize cannot be fitted: there are no values")
        mean, std = float(np.mean(values)), float(np.std(values))
        if not std > 0:
            raise DatasetError(f"Standardize cannot be fitted: all values are equal to {mean!r}")
        return Standardize(mean, std)

    def forward(self, values: Values) -> Values:
        """Return the transformed values."""
        mean, std = self._parameters()
        return (values - mean) / std

    def inverse(self, values: Values) -> Values:
        """Return the original values for transformed values."""
        mean, std = self._parameters()
        return values * std + mean

    def _parameters(self) -> tuple[float, float]:
        if self.mean is None or self.std is None:
            raise DatasetError(
                "Standardize is not fitted: use TimeSeries.fitted(train), or pass mean and std"
            )
        return self.mean, self.std
