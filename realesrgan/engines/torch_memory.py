"""Count the memory that PyTorch's operations take."""
from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While this context is open, counts the results of operations that are alive at the same time, on any device.

    What an operation takes for itself while it runs, and gives back, is not seen.

    Attributes:
        peak: The most bytes that they took.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._sizes: dict[int, int] = {}  # bytes, by address

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count its results."""
        results = operation(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, torch.Tensor):
                self._count(result.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        address = storage.data_ptr()
        if address not in self._sizes:  # or it is another view of the same memory
            self._sizes[address] = storage.nbytes()
            self.peak = max(self.peak, sum(self._sizes.values()))
            weakref.finalize(storage, self._sizes.pop, address, None)
