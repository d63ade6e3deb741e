"""Call a user's transform, and pass it the time of the image if it accepts one."""

import inspect
from collections.abc import Callable
from typing import Any

import torch


class TimedTransform:
    """A transform that is called with a tensor, and with the time if it takes a time.

    Parameters
    ----------
    transform
        ``transform(tensor)`` or ``transform(tensor, time=...)``. The time is an ISO string.
    """

    def __init__(self, transform: Callable[..., Any]):
        self.transform = transform
        # A module's `__call__` takes (*args, **kwargs), so inspect `forward` instead.
        called = transform.forward if isinstance(transform, torch.nn.Module) else transform
        try:
            parameters = inspect.signature(called).parameters
        except (TypeError, ValueError):  # built-in functions may have no signature
            parameters = {}  # type: ignore[assignment]
        self._with_time = "time" in parameters

    def __call__(self, tensor: torch.Tensor, time: str) -> Any:
        """Return the transformed tensor."""
        return self.transform(tensor, time=time) if self._with_time else self.transform(tensor)
