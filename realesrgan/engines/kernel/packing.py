"""Weights as the kernel wants them: transformed for Winograd's F(4x4,3x3), in the order in which it reads them."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from .library import CHUNK_GROUPS, GROUP

# Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), F(4x4,3x3).
_G = np.array([[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
               [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]])
_KERNEL_TO_FREQUENCIES = np.kron(_G, _G)  # 36 x 9


@dataclass(frozen=True)
class PackedConvolution:
    """The parameters of a convolution as the kernel reads them; see `pack_weights` and `pack_vector`."""

    weights: np.ndarray
    bias: np.ndarray
    slope: np.ndarray

    @classmethod
    def pack(cls, weight: np.ndarray, bias: np.ndarray, slope: np.ndarray | float, inputs: Sequence[int],
             panel: int) -> Self:
        """Pack the parameters of a convolution.

        Args:
            weight: out x in x 3 x 3.
            bias: One for each output channel.
            slope: Of negative results, for each output channel or for all.
            inputs: How the input channels are divided among buffers.
            panel: Output channels that the kernel computes at a time.
        """
        return cls(pack_weights(weight, inputs, panel), pack_vector(bias, len(weight), panel),
                   pack_vector(slope, len(weight), panel))


def count_groups(channels: int) -> int:
    """Return how many groups hold so many channels."""
    return -(-channels // GROUP)


def allocate(floats: int) -> np.ndarray:
    """Return zeros that begin with a cache line, as the kernel's vectors must."""
    memory = np.zeros(floats + GROUP, np.float32)  # not touched, so none is used yet
    skipped = -memory.ctypes.data % (4 * GROUP) // 4
    return memory[skipped:skipped + floats]


def pack_weights(weight: np.ndarray, inputs: Sequence[int], panel: int) -> np.ndarray:
    """Return the weights of a convolution for the kernel.

    Args:
        weight: out x in x 3 x 3.
        inputs: How the input channels are divided among buffers, each of which is filled up to whole groups.
        panel: Output channels that the kernel computes at a time.

    Returns:
        float32: chunk after chunk of input channels, each panel x 36 x channel in x channel out.
    """
    channels_out = weight.shape[0]
    padded = np.zeros((-(-channels_out // panel) * panel, sum(map(count_groups, inputs)) * GROUP, 9), np.float64)
    source = target = 0
    for channels in inputs:
        padded[:channels_out, target:target + channels] = weight[:, source:source + channels].reshape(
            channels_out, channels, 9)
        source += channels
        target += count_groups(channels) * GROUP
    with np.errstate(all='ignore'):  # weights that are not finite give results that are not, which is an error then
        transformed = (padded @ _KERNEL_TO_FREQUENCIES.T).astype(np.float32)
    by_panel = transformed.reshape(-1, panel, *transformed.shape[1:]).transpose(0, 3, 2, 1)
    chunks = -(-target // (CHUNK_GROUPS * GROUP))
    depth = -(-target // (chunks * GROUP)) * GROUP
    packed, end = allocate(by_panel.size), 0
    for start in range(0, target, depth):
        chunk = by_panel[:, :, start:start + depth]
        packed[end:end + chunk.size].reshape(chunk.shape)[...] = chunk
        end += chunk.size
    return packed


def pack_vector(values: np.ndarray | float, channels: int, panel: int) -> np.ndarray:
    """Return a value for each output channel, filled up with zeros to whole panels."""
    packed = allocate(-(-channels // panel) * panel)
    packed[:channels] = values
    return packed
