"""The config of an SRVGGNetCompact: the small network of the `realesr-*` models."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from .architecture import Layers, NetworkConfig

if TYPE_CHECKING:
    from .srvgg_arch import SRVGGNetCompact


class _Parameters(NamedTuple):
    scale: int = 4
    num_feat: int = 64
    num_conv: int = 16


class SRVGGNetCompactConfig(_Parameters, NetworkConfig):
    """The hyper-parameters of an SRVGGNetCompact with PReLU; see `srvgg_arch.SRVGGNetCompact`."""

    architecture: ClassVar[str] = 'SRVGGNetCompact'
    first_parameter: ClassVar[str] = 'body.0.weight'

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        convolutions = [name for name, shape in shapes.items() if len(shape) == 4]
        num_feat, channels_in = shapes['body.0.weight'][:2]
        if len(shapes.get('body.1.weight', ())) != 1:
            raise ValueError('body.1.weight, the slopes of a PReLU, is missing; other activations are not supported')
        channels_out = shapes[max(convolutions, key=lambda name: int(name.split('.')[1]))][0]
        scale = math.isqrt(channels_out // 3)
        if channels_in != 3 or scale < 1 or channels_out != 3 * scale ** 2:
            raise ValueError(f'it maps {channels_in} channels to {channels_out}; SRVGGNetCompact maps 3 to 3 x scale^2')
        return cls(scale, num_feat, len(convolutions) - 2)

    def layers(self) -> Layers:
        layers, now = Layers(), 0
        for index in range(0, 2 * self.num_conv + 2, 2):
            now = layers.convolve(f'body.{index}', [now], self.num_feat, f'body.{index + 1}.weight')
        return layers.finish(f'body.{2 * self.num_conv + 2}', [now], shuffle=self.scale, adds_picture=True)

    def build(self) -> SRVGGNetCompact:
        from .srvgg_arch import SRVGGNetCompact
        return SRVGGNetCompact(3, 3, self.num_feat, self.num_conv, self.scale, 'prelu')
