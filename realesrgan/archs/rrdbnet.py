"""The config of an RRDBNet: ESRGAN's generator, in the `*_x4plus*` and `*_x2plus` models."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from .architecture import Layers, NetworkConfig

if TYPE_CHECKING:
    from .rrdbnet_arch import RRDBNet

#: The scale by the channels that the first convolution takes: RGB, folded 2x2 or 4x4 (pixel-unshuffle).
_SCALES = {3: 4, 12: 2, 48: 1}

_LEAK = 0.2
_RESIDUAL = 0.2

# ESRGAN's own releases of 2018 used the first set of names, and the second once its code had been tidied up.
_OLD_FIRST_PARAMETERS = ('model.0.weight', 'RRDB_trunk.0.RDB1.conv1.weight')
_OLD_NAMES = (
    (r'model\.0\.', 'conv_first.'),
    (r'model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.', r'body.\1.rdb\2.conv\3.'),
    (r'model\.1\.sub\.\d+\.', 'conv_body.'),
    (r'model\.3\.', 'conv_up1.'),
    (r'model\.6\.', 'conv_up2.'),
    (r'model\.8\.', 'conv_hr.'),
    (r'model\.10\.', 'conv_last.'),
    (r'RRDB_trunk\.(\d+)\.RDB(\d)\.', r'body.\1.rdb\2.'),
    (r'trunk_conv\.', 'conv_body.'),
    (r'upconv(\d)\.', r'conv_up\1.'),
    (r'HRconv\.', 'conv_hr.'),
)


class _Parameters(NamedTuple):
    scale: int = 4
    num_feat: int = 64
    num_block: int = 23
    num_grow_ch: int = 32


class RRDBNetConfig(_Parameters, NetworkConfig):
    """The hyper-parameters of an RRDBNet; see `rrdbnet_arch.RRDBNet`."""

    architecture: ClassVar[str] = 'RRDBNet'
    first_parameter: ClassVar[str] = 'conv_first.weight'

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        num_feat, channels_in = shapes['conv_first.weight'][:2]
        channels_out = shapes['conv_last.weight'][0]
        if channels_out != 3 or channels_in not in _SCALES:
            raise ValueError(f'it maps {channels_in} channels to {channels_out}; RRDBNet maps 3, 12 or 48 to 3')
        blocks = {int(match[1]) for name in shapes if (match := re.match(r'body\.(\d+)\.', name))}
        return cls(_SCALES[channels_in], num_feat, len(blocks), shapes['body.0.rdb1.conv1.weight'][0])

    @classmethod
    def current_names(cls, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        if not any(name in state_dict for name in _OLD_FIRST_PARAMETERS):
            return dict(state_dict)
        return {_rename(name): tensor for name, tensor in state_dict.items()}

    @property
    def multiple(self) -> int:
        return 4 // self.scale

    def layers(self) -> Layers:
        layers = Layers(fold=self.multiple)
        first = now = layers.convolve('conv_first', [0], self.num_feat)
        for block in range(self.num_block):
            start = now
            for dense in range(1, 4):
                name, features = f'body.{block}.rdb{dense}.conv', [now]
                for index in range(1, 5):
                    features.append(layers.convolve(f'{name}{index}', features, self.num_grow_ch, _LEAK))
                residuals = [(now, _RESIDUAL), (start, _RESIDUAL)]
                now = layers.convolve(f'{name}5', features, self.num_feat, residuals=residuals[:2 if dense == 3 else 1])
        now = layers.convolve('conv_body', [now], self.num_feat, residuals=[(first, 1.0)])
        for name in ('conv_up1', 'conv_up2'):
            now = layers.convolve(name, [now], self.num_feat, _LEAK, doubles=True)
        now = layers.convolve('conv_hr', [now], self.num_feat, _LEAK)
        return layers.finish('conv_last', [now])

    def build(self) -> RRDBNet:
        from .rrdbnet_arch import RRDBNet
        return RRDBNet(3, 3, self.scale, self.num_feat, self.num_block, self.num_grow_ch)


def _rename(name: str) -> str:
    for pattern, replacement in _OLD_NAMES:
        renamed, count = re.subn('^' + pattern, replacement, name)
        if count:
            return renamed
    return name
