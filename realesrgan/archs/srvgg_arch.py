"""SRVGGNetCompact, the small VGG-style network of the realesr-* models."""
from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


def _make_activation(act_type: str, num_feat: int) -> nn.Module:
    if act_type == 'prelu':
        return nn.PReLU(num_parameters=num_feat)
    if act_type == 'relu':
        return nn.ReLU(inplace=True)
    if act_type == 'leakyrelu':
        return nn.LeakyReLU(negative_slope=0.1, inplace=True)
    raise ValueError(f'SRVGGNetCompact has no activation {act_type!r}: allowed are prelu, relu and leakyrelu')


class SRVGGNetCompact(nn.Module):
    """A chain of convolutions at the input's size; only the last step, a pixel-shuffle, enlarges.

    The network learns the residual over a nearest-neighbour enlargement.

    Args:
        num_in_ch: Channels of the input picture.
        num_out_ch: Channels of the output picture; must equal `num_in_ch`.
        num_feat: Channels between the convolutions.
        num_conv: Convolutions between the first and the last; released models have 16 or 32.
        upscale: The scale.
        act_type: 'prelu', 'relu' or 'leakyrelu'.

    Raises:
        ValueError: unknown `act_type`.

    Source: `SRVGGNetCompact` of Real-ESRGAN 0.3.0; the parameter names are the same.
    """

    def __init__(self, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, num_conv: int = 16,
                 upscale: int = 4, act_type: str = 'prelu') -> None:
        super().__init__()
        self.upscale = upscale
        self.scale = upscale  # RRDBNet's name for it
        widths = [num_in_ch, *[num_feat] * (num_conv + 1)]
        layers: list[nn.Module] = []
        for channels_in, channels_out in pairwise(widths):
            layers += [nn.Conv2d(channels_in, channels_out, 3, 1, 1), _make_activation(act_type, num_feat)]
        layers.append(nn.Conv2d(num_feat, num_out_ch * upscale ** 2, 3, 1, 1))
        self.body = nn.ModuleList(layers)
        self.upsampler = nn.PixelShuffle(upscale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, num_in_ch, H, W), RGB in 0..1, to (N, num_out_ch, upscale*H, upscale*W)."""
        out = x
        for layer in self.body:
            out = layer(out)
        out = self.upsampler(out)
        return out + F.interpolate(x, scale_factor=self.upscale, mode='nearest')
