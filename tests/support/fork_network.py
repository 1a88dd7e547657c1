"""An architecture as it is added: a config and a module. It differs from the built-in ones in all that engines do."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from realesrgan.archs.architecture import Layers, NetworkConfig


@dataclass(frozen=True)
class ForkConfig(NetworkConfig):
    """For scale 2 it folds the picture and doubles features; else it works at the picture's size and adds it."""

    scale: int
    num_feat: int = 8

    architecture = 'Fork'
    first_parameter = 'head.weight'

    @classmethod
    def from_shapes(cls, shapes):
        channels = shapes['tail.weight'][0]
        return cls(2 if shapes['head.weight'][1] == 12 else round((channels // 3) ** 0.5), shapes['head.weight'][0])

    @property
    def multiple(self):
        return 2 if self.scale == 2 else 1

    def layers(self):
        layers, feat, doubles = Layers(fold=self.multiple), self.num_feat, self.scale == 2
        head = layers.convolve('head', [0], feat, 'prelu.weight')
        left = layers.convolve('left', [head, 0], feat, 0.1, residuals=[(head, 1.0)])
        right = layers.convolve('right', [left, head], 2 * feat, 0)
        up = layers.convolve('up', [right, left], feat, 0.3, doubles=doubles)
        last = layers.convolve('last', [up], feat, 'slopes.weight', residuals=[(up, -0.5), (up, 0.25)])
        return layers.finish('tail', [last, up], shuffle=self.scale, adds_picture=not doubles)

    def build(self):
        return Fork(self.scale, self.num_feat)


class Fork(nn.Module):
    def __init__(self, scale, feat):
        super().__init__()
        self.scale, self.fold = scale, 2 if scale == 2 else 1
        channels = 3 * self.fold ** 2
        self.head, self.prelu = nn.Conv2d(channels, feat, 3, 1, 1), nn.PReLU(feat)
        self.left = nn.Conv2d(feat + channels, feat, 3, 1, 1)
        self.right = nn.Conv2d(2 * feat, 2 * feat, 3, 1, 1)
        self.up = nn.Conv2d(3 * feat, feat, 3, 1, 1)
        self.last, self.slopes = nn.Conv2d(feat, feat, 3, 1, 1), nn.PReLU(feat)
        self.tail = nn.Conv2d(2 * feat, 3 * scale ** 2, 3, 1, 1)

    def forward(self, x):
        picture = F.pixel_unshuffle(x, self.fold)
        head = self.prelu(self.head(picture))
        left = head + F.leaky_relu(self.left(torch.cat([head, picture], 1)), 0.1)
        up = torch.cat([self.right(torch.cat([left, head], 1)).relu(), left], 1)
        if self.fold == 2:
            up = F.interpolate(up, scale_factor=2)
        up = F.leaky_relu(self.up(up), 0.3)
        last = up + 0.25 * (up - 0.5 * self.slopes(self.last(up)))
        result = F.pixel_shuffle(self.tail(torch.cat([last, up], 1)), self.scale)
        return result if self.fold == 2 else result + F.interpolate(x, scale_factor=self.scale)
