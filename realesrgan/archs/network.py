"""The base class of the networks."""
from __future__ import annotations

from torch import nn


class Network(nn.Module):
    """Maps (N, 3, H, W), RGB in 0..1, to (N, 3, scale*H, scale*W).

    Attributes:
        scale: Output pixels per input pixel, along a side.
    """

    scale: int
