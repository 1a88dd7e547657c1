"""The three networks of face enhancement: imported, and loaded with weights of our own fetching.

gfpgan and facexlib would download their files themselves, into the current folder or their own, and unpickle whatever
is in them. Only their network classes are used here. The files come through `weights`: checked, and as weights only.
"""
from __future__ import annotations

import sys
import textwrap
import types
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DownloadError, FacePackagesError, WeightsError
from ..models import FACE_MODELS
from ..weights.reading import load_state_dict
from ..weights.sources import get_weights_folder, locate, obtain

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Side in pixels of the square that a face is brought to; the networks take no other.
FACE_SIDE = 512
_INSTALL = 'pip install setuptools cython torchvision; pip install --no-build-isolation basicsr facexlib gfpgan'


@dataclass(frozen=True)
class FaceNetworks:
    """The three networks on one device, in float32 and evaluation mode.

    Attributes:
        restorer: GFPGANv1Clean: N x 3 x 512 x 512 RGB in -1..1 to a pair whose first is the same, restored.
        detector: facexlib's RetinaFace, with `detect_faces(picture, threshold)`.
        parser: ParseNet: N x 3 x 512 x 512 RGB in -1..1 to a pair whose first is N x 19 x 512 x 512 class scores.
    """

    restorer: nn.Module
    detector: Any  # an nn.Module, whose methods mypy takes for tensors
    parser: nn.Module


def obtain_face_files(model: str) -> list[Path]:
    """Return the paths of a face model's weights: of the restorer, the detector and the parser.

    Missing ones are downloaded into `get_weights_folder()`.

    Args:
        model: A key of `models.FACE_MODELS`.

    Raises:
        ValueError: unknown model.
        WeightsError: some are not at hand and can't be fetched; the message names all of them.
    """
    if model not in FACE_MODELS:
        raise ValueError(f'unknown face model {model!r}: choose from {", ".join(FACE_MODELS)}')
    files = FACE_MODELS[model]
    try:
        return [obtain(file) for file in files]
    except (DownloadError, OSError) as error:
        missing = [file for file in files if not isinstance(locate(file), Path)]
        raise WeightsError(
            f'face enhancement needs weights that are missing: {", ".join(file.name for file in missing)}. Put them '
            f'into {get_weights_folder()}, from {", ".join(file.url for file in missing)}; the download failed: {error}'
        ) from error


def load_face_networks(files: Sequence[Path], device: torch.device) -> FaceNetworks:
    """Build the three networks and load their weights from the files that `obtain_face_files` returns.

    Raises:
        FacePackagesError: gfpgan, facexlib or a package that they need is not installed.
        WeightsError: a file is damaged, holds code, or belongs to another network.
    """
    # Always float32, with or without --fp32. GFPGAN's decoder is a StyleGAN2, whose modulated convolutions overflow
    # float16: to train it in half precision, NVIDIA clamped activations and normalised styles first (Karras et al.,
    # 2020, StyleGAN2-ADA, appendix), which GFPGAN does not. bfloat16 keeps only 8 bits of a landmark or a colour.
    classes = import_face_packages()
    restorer = classes.GFPGANv1Clean(
        out_size=FACE_SIDE, num_style_feat=512, channel_multiplier=2, decoder_load_path=None, fix_decoder=False,
        num_mlp=8, input_is_latent=True, different_w=True, narrow=1, sft_half=True)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # facexlib builds its ResNet with an argument that torchvision renamed
        detector = classes.RetinaFace(network_name='resnet50', device=device)
    parser = classes.ParseNet(in_size=FACE_SIDE, out_size=FACE_SIDE, parsing_ch=19)
    networks = zip((restorer, detector, parser), files, strict=True)
    return FaceNetworks(*(_load(network, file, device) for network, file in networks))


def _load(network: nn.Module, path: Path, device: torch.device) -> nn.Module:
    # torch.nn.DataParallel left "module." before each name in the detector's file.
    state_dict = {name.removeprefix('module.'): tensor for name, tensor in load_state_dict(path).items()}
    try:
        network.load_state_dict(state_dict, strict=True)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 200, placeholder=' ...')  # torch names every parameter
        raise WeightsError(f'{path}: does not fit {type(network).__name__}: {reason}; delete it to have it fetched '
                           'again') from None
    return network.requires_grad_(False).eval().to(device)


# ---- gfpgan, facexlib and basicsr ----

def import_face_packages() -> Any:
    """Import gfpgan and facexlib and return a namespace of their GFPGANv1Clean, RetinaFace and ParseNet.

    Raises:
        FacePackagesError: they, or packages that they need, are not installed.
    """
    try:
        from facexlib.detection.retinaface import RetinaFace
        from facexlib.parsing.parsenet import ParseNet
        from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean
    except ModuleNotFoundError as error:
        missing, (major, minor) = error.name or str(error), sys.version_info[:2]
        line = f'--face_enhance needs {missing}, which is not installed'
        # https://github.com/XPixelGroup/BasicSR/issues/749
        if (major, minor) >= (3, 13) and missing.split('.')[0] in ('basicsr', 'gfpgan', 'facexlib', 'torchvision'):
            raise FacePackagesError(
                f'{line}, and basicsr, which it needs, does not build on Python {major}.{minor}. Use an environment of '
                'Python 3.11 or 3.12 (python3.12 -m venv .venv) and install the requirements there, or leave '
                '--face_enhance out') from error
        raise FacePackagesError(f'{line}: {_INSTALL}') from error
    return types.SimpleNamespace(GFPGANv1Clean=GFPGANv1Clean, RetinaFace=RetinaFace, ParseNet=ParseNet)
