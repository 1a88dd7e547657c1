"""The shape of an SRVGGNetCompact: the small network of the `realesr-*` models."""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from .architecture import NetworkShape, convolution_shapes

if TYPE_CHECKING:
    from .srvgg_arch import SRVGGNetCompact


@dataclass(frozen=True)
class SRVGGNetCompactShape(NetworkShape):
    """The hyper-parameters of an SRVGGNetCompact with PReLU; see `srvgg_arch.SRVGGNetCompact`."""

    scale: int = 4
    num_feat: int = 64
    num_conv: int = 16

    architecture: ClassVar[str] = 'SRVGGNetCompact'
    first_parameter: ClassVar[str] = 'body.0.weight'
    # Measured like those of `rrdbnet`.
    working_bytes: ClassVar[Mapping[tuple[str, bool], int]] = {
        ('winograd', False): 950, ('openvino', True): 790, ('openvino', False): 940, ('torch', True): 400,
        ('torch', False): 620, ('vulkan', True): 1030, ('vulkan', False): 2050}

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

    @property
    def reach(self) -> int:
        """Input pixels around a tile that its result depends on: one per 3x3 convolution. This is exact."""
        return self.num_conv + 2

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for index in range(self.num_conv + 1):
            shapes |= convolution_shapes(f'body.{2 * index}', self.num_feat if index else 3, self.num_feat)
            shapes[f'body.{2 * index + 1}.weight'] = (self.num_feat,)
        return shapes | convolution_shapes(f'body.{2 * self.num_conv + 2}', self.num_feat, 3 * self.scale ** 2)

    def build(self) -> SRVGGNetCompact:
        from .srvgg_arch import SRVGGNetCompact
        return SRVGGNetCompact(3, 3, self.num_feat, self.num_conv, self.scale, 'prelu')
