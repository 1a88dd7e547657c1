"""Restore faces with GFPGAN: `FaceEnhancer` lays them over what `RealESRGANer` makes of the picture.

gfpgan and facexlib would download their files themselves, into the current folder or their own, and unpickle whatever
is in them. Only their network classes are used here. The files come through `weights`: checked, and as weights only.

Source: the numbers and steps are those of `FaceRestoreHelper` in facexlib 0.3.0; at 8 bits the pixels are the same too.
"""
from __future__ import annotations

import functools
import logging
import sys
import textwrap
import types
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from .engines.engine import Engine
from .errors import DownloadError, FacePackagesError, NonFiniteError, WeightsError
from .models import FACE_MODELS
from .upscaling.pixels import fill_hidden_colours, to_unit
from .upscaling.tiles import Tile
from .upscaling.upsampler import RealESRGANer
from .weights.reading import load_state_dict
from .weights.sources import get_weights_folder, locate, obtain

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

#: Side in pixels of the square that a face is brought to; the networks take no other.
FACE_SIDE = 512
_INSTALL = 'pip install setuptools cython torchvision; pip install --no-build-isolation basicsr facexlib gfpgan'
#: The least score of the detector, and the least distance of the eyes in pixels of the input, as in gfpgan's GFPGANer.
_MIN_SCORE = 0.97
_MIN_EYE_DISTANCE = 5
#: Where the faces of FFHQ have their landmarks in a square of 512 pixels, x and y: the eyes, the one on the picture's
#: left first, the nose, the corners of the mouth.
_TEMPLATE = np.array([[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043],
                      [313.08905, 371.15118]])
#: The colour of what lies outside the picture, BGR in 0..255.
_OUTSIDE = (135, 133, 132)
#: ParseNet's classes that are no part of a face: background, hat, two of the neck, clothes.
_NOT_FACE = (0, 14, 16, 17, 18)
#: Pixels along each side of the square that the mask leaves out, and the sigma of its blur.
_BORDER = 10
_BLUR_SIGMA = 11
#: Pixels from which on `paste_face` no longer starts at the picture's corner, and the rows it blends at once.
_LARGE = 8192
_BAND = 64


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Attributes:
        box: Left, top, right, bottom in pixels of the picture.
        landmarks: 5 x 2 (x, y) in pixels: left eye, right eye, nose, left and right corner of the mouth, as seen in
            the picture.
    """

    box: np.ndarray
    landmarks: np.ndarray


class FaceEnhancer:
    """Upscales pictures and restores the faces in them. Its `enhance` is called like that of `RealESRGANer`.

    Args:
        upsampler: Upscales the picture. Its device is used for the faces too.
        model: A key of `models.FACE_MODELS`.
        weight: How much of the restored face is laid over the upscaled one, 0..1: 1 is GFPGAN's own result, 0 leaves
            the upscaled face as it is.
        only_center_face: Restore only the face nearest to the picture's centre.
        min_size: Leave faces alone whose box, on its longer side, has fewer pixels of the input than this.

    Attributes:
        scale, device, device_type: The upsampler's; the networks run there.
        networks: GFPGAN, RetinaFace and ParseNet.

    Raises:
        ValueError: an argument out of range.
        FacePackagesError: gfpgan, facexlib or a package that they need is not installed.
        WeightsError: weights of the three networks can't be fetched, or are damaged or dangerous.

    Source: GFP-GAN (Wang et al., CVPR 2021), applied as `GFPGANer` of gfpgan 1.3.8 and `FaceRestoreHelper` of facexlib
    0.3.0 do. On 8-bit RGB the pixels are the same, with two exceptions: their decoder draws new noise each time, where
    this one uses the noise in the weight file, so that a picture has one result; and where two faces overlap, a value
    may be less by one.
    """

    def __init__(self, upsampler: RealESRGANer, model: str = 'GFPGANv1.3', weight: float = 1.0, *,
                 only_center_face: bool = False, min_size: int = 0) -> None:
        if not 0 <= weight <= 1:
            raise ValueError(f'weight is {weight}; allowed is 0 to 1')
        if min_size < 0:
            raise ValueError(f'min_size is {min_size}; it must be 0 or more')
        self.upsampler = upsampler
        self.scale = upsampler.scale
        self.device = upsampler.device
        self.device_type = upsampler.device_type
        self.networks = load_face_networks(obtain_face_files(model), self.device)
        self._weight = weight
        self._only_center_face = only_center_face
        self._min_size = min_size
        logger.info('faces: %s in float32 on %s', model, self.device)

    @property
    def engine(self) -> Engine:
        """The engine that runs the upsampler's network."""
        return self.upsampler.engine

    @property
    def tiles(self) -> Sequence[Tile]:
        """The tiles of the upsampler's last picture."""
        return self.upsampler.tiles

    @property
    def on_tile(self) -> Callable[[float, int], None] | None:
        """Called after each tile of the upsampler."""
        return self.upsampler.on_tile

    @on_tile.setter
    def on_tile(self, call: Callable[[float, int], None] | None) -> None:
        self.upsampler.on_tile = call

    def enhance(self, img: np.ndarray, outscale: float | None = None, alpha_upsampler: str = 'realesrgan', *,
                size: tuple[int, int] | None = None, strength: float = 1.0) -> tuple[np.ndarray, str]:
        """Upscale one picture and restore its faces; arguments, result and errors are those of `RealESRGANer.enhance`.

        Without a face, the result is that of `RealESRGANer.enhance`. Faces have the depth of the picture, and are gray
        in a gray one, also in a gray one with alpha that comes as BGRA. Alpha is not changed. `strength` concerns what
        lies around and under the faces; how much of them is seen is up to `weight`.
        """
        large, mode = self.upsampler.enhance(img, outscale, alpha_upsampler, size=size, strength=strength)
        scale = self.upsampler.scale if outscale is None else outscale
        scales = (scale, scale) if size is None else (size[0] / img.shape[1], size[1] / img.shape[0])
        import torch

        from .engines.torch import is_out_of_memory
        try:
            with torch.inference_mode():
                self._restore_faces(_convert_to_bgr(img, large.dtype), large, scales)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(f'not enough memory on {self.device} for the faces of a picture of {img.shape[1]}x'
                              f'{img.shape[0]} pixels; leave out --face_enhance') from error
        return large, mode

    #: As `RealESRGANer.in_flight`: faces are found and restored one picture after the other.
    in_flight = 0

    def submit(self, *picture: Any, **options: Any) -> Callable[[], tuple[np.ndarray, str]]:
        """Return what upscales a picture; see `RealESRGANer.submit`."""
        return functools.partial(self.enhance, *picture, **options)

    def find_faces(self, picture: np.ndarray) -> list[Face]:
        """Return the faces that `enhance` would restore, those with the best scores first.

        Args:
            picture: HxWx3, BGR, uint8 or uint16.
        """
        pixels = picture.astype(np.float32) / (np.iinfo(picture.dtype).max // 255)
        rows = self.networks.detector.detect_faces(pixels, _MIN_SCORE)
        faces = [Face(row[:4], row[5:].reshape(5, 2)) for row in rows]
        faces = [face for face in faces if max(face.box[2:] - face.box[:2]) >= self._min_size
                 and np.linalg.norm(face.landmarks[0] - face.landmarks[1]) >= _MIN_EYE_DISTANCE]
        if self._only_center_face and faces:
            centre = np.array(picture.shape[1::-1]) / 2
            return [min(faces, key=lambda face: float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - centre)))]
        return faces

    def _restore_faces(self, picture: np.ndarray, large: np.ndarray, scales: tuple[float, float]) -> None:
        """Restore the faces of an HxWx3 BGR picture in its enlargement, in place."""
        faces = self.find_faces(picture)
        gray = large.ndim == 2 or (large.shape[2] == 4 and (picture == picture[..., :1]).all())
        most = np.iinfo(picture.dtype).max
        outside = [value * (most // 255) for value in _OUTSIDE]
        logger.debug('%d faces', len(faces))
        for face in faces:
            # The similarity from the picture to the upright square that the networks take.
            matrix = cv2.estimateAffinePartial2D(face.landmarks, _TEMPLATE, method=cv2.LMEDS)[0]
            if matrix is None:  # the landmarks coincide
                continue
            square = cv2.warpAffine(picture, matrix, (FACE_SIDE, FACE_SIDE), borderMode=cv2.BORDER_CONSTANT,
                                    borderValue=outside)
            # With new noise for each frame the faces of a video would flicker.
            result = self._run(
                lambda batch: self.networks.restorer(batch, return_rgb=False, randomize_noise=False)[0], square)
            unit = (result[0, ::-1].transpose(1, 2, 0).clip(-1, 1) + 1) / 2
            restored = np.rint(unit * most).astype(picture.dtype)
            if gray:
                restored = cv2.cvtColor(cv2.cvtColor(restored, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
            scores = self._run(lambda batch: self.networks.parser(batch)[0], restored)
            paste_face(large, restored, _draw_mask(scores[0].argmax(0)) * self._weight, matrix, scales)

    def _run(self, network: Callable[[torch.Tensor], torch.Tensor], square: np.ndarray) -> np.ndarray:
        """Run a network on 512 x 512 x 3, BGR; it gets 1 x 3 x 512 x 512, RGB in -1..1, float32."""
        import torch
        unit = to_unit(square, square.dtype)
        batch = np.ascontiguousarray((unit[None, :, :, ::-1].transpose(0, 3, 1, 2) - 0.5) / 0.5)
        result = network(torch.from_numpy(batch).to(self.device)).cpu().numpy()
        if not np.isfinite(result).all():
            raise NonFiniteError(f'a face network gave values that are not finite (float32 on {self.device}): are its '
                                 'weights damaged? python -m realesrgan.weights says where they are')
        return result


def _convert_to_bgr(img: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a picture of any kind that `RealESRGANer.enhance` takes as HxWx3, BGR, of `dtype`."""
    if img.dtype != dtype:
        img = np.rint(img.clip(0, np.iinfo(dtype).max)).astype(dtype)
    if img.ndim == 3 and img.shape[2] == 4:
        return fill_hidden_colours(img, dtype)
    return np.ascontiguousarray(np.broadcast_to(img if img.ndim == 3 else img[..., None], (*img.shape[:2], 3)))


def _draw_mask(classes: np.ndarray) -> np.ndarray:
    """Return how much each pixel belongs to the face.

    Args:
        classes: 512 x 512, ParseNet's class of each pixel.

    Returns:
        512 x 512, float64 in 0..1, with a soft outline, and 0 along the square's sides.
    """
    mask = np.where(np.isin(classes, _NOT_FACE), 0.0, 255.0)
    for _ in range(2):
        mask = cv2.GaussianBlur(mask, (101, 101), _BLUR_SIGMA)
    inside = np.zeros_like(mask)
    inside[_BORDER:-_BORDER, _BORDER:-_BORDER] = mask[_BORDER:-_BORDER, _BORDER:-_BORDER]
    return inside / 255


def paste_face(large: np.ndarray, square: np.ndarray, mask: np.ndarray, matrix: np.ndarray,
               scales: tuple[float, float]) -> None:
    """Lay a restored face over the enlarged picture, in place; no pixel changes where the mask is 0.

    Args:
        large: HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA, whose alpha stays); uint8 or uint16.
        square: 512 x 512 x 3, BGR, of the dtype of `large`; with three equal channels if `large` is gray.
        mask: 512 x 512, float64 in 0..1.
        matrix: 2 x 3, from the picture to the square.
        scales: Width and height of `large` as multiples of the picture's.
    """
    back = cv2.invertAffineTransform(matrix)
    for axis, scale in zip(back, scales, strict=True):
        axis *= scale
        if scale > 1:
            axis[2] += 0.5 * scale
    rows, columns = _find_extent(back, large.shape)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    # cv2.warpAffine rounds positions to 1/32 of a pixel, differently for each origin. To get facexlib's pixels it has
    # to start at the picture's corner, as facexlib does, unless that would take much memory, or more than the 32767
    # pixels that warpAffine can do.
    origin = np.zeros(2, int)
    if max(rows.stop, columns.stop) > _LARGE:
        origin[:] = columns.start, rows.start
    back[:, 2] -= origin
    size = columns.stop - origin[0], rows.stop - origin[1]
    part = slice(rows.start - origin[1], None), slice(columns.start - origin[0], None)
    face = cv2.warpAffine(square, back, size)[part]
    share = cv2.warpAffine(mask, back, size, flags=cv2.INTER_LINEAR)[part]
    if large.ndim == 2:
        target, face = large[rows, columns], face[..., 0]
    else:
        target, share = large[rows, columns, :3], share[..., None]
    for start in range(0, len(target), _BAND):  # the face of a portrait, in float64 all at once, would take gigabytes
        band = slice(start, start + _BAND)
        # Truncated, not rounded, as in facexlib.
        target[band] = share[band] * face[band] + (1 - share[band]) * target[band]


def _find_extent(back: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns of the large picture that the square covers."""
    side = FACE_SIDE
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]) @ back.T
    left, top = np.floor(corners.min(0)).astype(int) - 1
    right, bottom = np.ceil(corners.max(0)).astype(int) + 2
    return slice(max(top, 0), min(bottom, shape[0])), slice(max(left, 0), min(right, shape[1]))


# ---- the three networks ----

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
        reason = str(error).partition('. ')[0]  # without the advice for a single file
        raise WeightsError(
            f'put the face weights {", ".join(file.name for file in missing)} into {get_weights_folder()}; the '
            f'download failed: {reason}') from error


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
    try:
        network.load_state_dict(load_state_dict(path), strict=True)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 200, placeholder=' ...')  # torch names every parameter
        raise WeightsError(f'{path}: does not fit {type(network).__name__}: {reason}; delete it to have it fetched '
                           'again') from None
    return network.requires_grad_(False).eval().to(device)


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
                'Python 3.11 or 3.12 (python3.12 -m venv .venv), or leave --face_enhance out') from error
        raise FacePackagesError(f'{line}: {_INSTALL}') from error
    return types.SimpleNamespace(GFPGANv1Clean=GFPGANv1Clean, RetinaFace=RetinaFace, ParseNet=ParseNet)
