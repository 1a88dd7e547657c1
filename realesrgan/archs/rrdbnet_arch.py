"""RRDBNet, the generator of ESRGAN (Wang et al., ECCVW 2018), as Real-ESRGAN uses it."""
from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

_LEAK = 0.2
_RESIDUAL = 0.2


class ResidualDenseBlock(nn.Module):
    """Five convolutions, each of which sees the input and all earlier results (ESRGAN, section 3.1).

    Args:
        num_feat: Channels in and out.
        num_grow_ch: Channels that each of the first four convolutions adds.
    """

    def __init__(self, num_feat: int = 64, num_grow_ch: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_grow_ch, 3, 1, 1)
        self.conv2 = nn.Conv2d(num_feat + num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv3 = nn.Conv2d(num_feat + 2 * num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv4 = nn.Conv2d(num_feat + 3 * num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv5 = nn.Conv2d(num_feat + 4 * num_grow_ch, num_feat, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, num_feat, H, W) to the same shape."""
        features = [x]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            features.append(F.leaky_relu(conv(torch.cat(features, 1)), _LEAK, inplace=True))
        return torch.add(x, self.conv5(torch.cat(features, 1)), alpha=_RESIDUAL)


class RRDB(nn.Module):
    """Residual in residual dense block: three dense blocks with a residual around them."""

    def __init__(self, num_feat: int, num_grow_ch: int = 32) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb2 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb3 = ResidualDenseBlock(num_feat, num_grow_ch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, num_feat, H, W) to the same shape."""
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=_RESIDUAL)


class RRDBNet(nn.Module):
    """The network of the `*_x4plus*` and `*_x2plus` models.

    The body always upscales by four. For scale 2 and 1 the picture is first folded by pixel-unshuffle, which moves
    2x2 or 4x4 pixels into channels, so its sides must be multiples of 2 or 4.

    Args:
        num_in_ch: Channels of the input picture.
        num_out_ch: Channels of the output picture.
        scale: 4, 2 or 1.
        num_feat: Channels between the blocks.
        num_block: Number of RRDB blocks: 23, or 6 in the anime model.
        num_grow_ch: Channels that each dense convolution adds.

    Raises:
        ValueError: `scale` is not 4, 2 or 1.

    Source: `RRDBNet` of basicsr 1.4.2; the parameter names are the same.
    """

    def __init__(self, num_in_ch: int, num_out_ch: int, scale: int = 4, num_feat: int = 64, num_block: int = 23,
                 num_grow_ch: int = 32) -> None:
        super().__init__()
        if scale not in (4, 2, 1):
            raise ValueError(f'RRDBNet has no scale {scale!r}: allowed are 4, 2 and 1')
        self.scale = scale
        self.unshuffle = 4 // scale
        self.conv_first = nn.Conv2d(num_in_ch * self.unshuffle ** 2, num_feat, 3, 1, 1)
        self.body = nn.Sequential(*(RRDB(num_feat, num_grow_ch) for _ in range(num_block)))
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_up1 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_up2 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, num_in_ch, H, W), RGB in 0..1, to (N, num_out_ch, scale*H, scale*W)."""
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle)
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for conv in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode='nearest')), _LEAK, inplace=True)
        x = F.leaky_relu(self.conv_hr(x), _LEAK, inplace=True)
        return self.conv_last(x)
