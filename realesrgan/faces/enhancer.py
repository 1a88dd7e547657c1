"""`FaceEnhancer`: faces restored by GFPGAN, laid over what `RealESRGANer` makes of the picture."""
from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch

from ..engines.engine import Engine
from ..engines.torch import is_out_of_memory
from ..errors import NonFiniteError
from ..upscaling.pixels import fill_hidden_colours
from ..upscaling.tiles import Tile
from ..upscaling.upsampler import RealESRGANer
from . import geometry
from .geometry import Face
from .networks import load_face_networks, obtain_face_files

logger = logging.getLogger(__name__)

#: The least score of the detector, and the least distance of the eyes in pixels of the input, as in gfpgan's GFPGANer.
_MIN_SCORE = 0.97
_MIN_EYE_DISTANCE = 5


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
        upsampler: As above.
        device: Where the networks run.
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
        self.device = upsampler.device
        self.networks = load_face_networks(obtain_face_files(model), self.device)
        self._weight = weight
        self._only_center_face = only_center_face
        self._min_size = min_size
        logger.info('faces: %s in float32 on %s', model, self.device)

    @property
    def device_type(self) -> str:
        """The kind of the device: 'cpu', 'cuda' ..."""
        return self.upsampler.device_type

    @property
    def scale(self) -> int:
        """The scale of the upsampler's network."""
        return self.upsampler.scale

    @property
    def engine(self) -> Engine:
        """What runs the upsampler's network."""
        return self.upsampler.engine

    @property
    def tiles(self) -> Sequence[Tile]:
        """The tiles of the upsampler's last picture."""
        return self.upsampler.tiles

    @property
    def on_tile(self) -> Callable[[int, int], None] | None:
        """What is called after each tile of the upsampler."""
        return self.upsampler.on_tile

    @on_tile.setter
    def on_tile(self, call: Callable[[int, int], None] | None) -> None:
        self.upsampler.on_tile = call

    def enhance(self, img: np.ndarray, outscale: float | None = None,
                alpha_upsampler: str = 'realesrgan') -> tuple[np.ndarray, str]:
        """Upscale one picture and restore its faces; arguments, result and errors are those of `RealESRGANer.enhance`.

        Without a face, the result is that of `RealESRGANer.enhance`. Faces have the depth of the picture, and are gray
        in a gray one, also in a gray one with alpha that comes as BGRA. Alpha is not changed.
        """
        large, mode = self.upsampler.enhance(img, outscale, alpha_upsampler)
        scale = self.upsampler.scale if outscale is None else outscale
        try:
            with torch.inference_mode():
                self._restore_faces(_convert_to_bgr(img, large.dtype), large, scale)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(f'not enough memory on {self.device} for the faces of a picture of {img.shape[1]}x'
                              f'{img.shape[0]} pixels; leave out --face_enhance') from error
        return large, mode

    def find_faces(self, picture: np.ndarray) -> list[Face]:
        """Return the faces that `enhance` would restore, those with the best scores first.

        Args:
            picture: HxWx3, BGR, uint8 or uint16.
        """
        pixels = picture.astype(np.float32) / (np.iinfo(picture.dtype).max // 255)
        rows = self.networks.detector.detect_faces(pixels, _MIN_SCORE)
        faces = [Face(row[:4], row[5:].reshape(5, 2)) for row in rows]
        faces = [face for face in faces if face.eye_distance >= _MIN_EYE_DISTANCE and face.size >= self._min_size]
        if self._only_center_face and faces:
            height, width = picture.shape[:2]
            return [min(faces, key=lambda face: face.distance(width / 2, height / 2))]
        return faces

    def _restore_faces(self, picture: np.ndarray, large: np.ndarray, scale: float) -> None:
        """Restore the faces of an HxWx3 BGR picture in its enlargement, in place."""
        faces = self.find_faces(picture)
        gray = large.ndim == 2 or (large.shape[2] == 4 and (picture == picture[..., :1]).all())
        logger.debug('%d faces', len(faces))
        for face in faces:
            matrix = geometry.align(face)
            if matrix is None:
                continue
            square = geometry.crop_face(picture, matrix)
            # With new noise for each frame the faces of a video would flicker.
            restored = geometry.from_network(self._run(
                lambda batch: self.networks.restorer(batch, return_rgb=False, randomize_noise=False)[0], square),
                square.dtype)
            if gray:
                restored = cv2.cvtColor(cv2.cvtColor(restored, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
            scores = self._run(lambda batch: self.networks.parser(batch)[0], restored)
            mask = geometry.draw_mask(scores[0].argmax(0)) * self._weight
            geometry.paste_face(large, restored, mask, matrix, scale)

    def _run(self, network: Callable[[torch.Tensor], torch.Tensor], square: np.ndarray) -> np.ndarray:
        result = network(torch.from_numpy(geometry.to_network(square)).to(self.device)).cpu().numpy()
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
