"""Show a video beside its source: a short clip from the middle."""
from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from ..errors import VideoError
from ..ffmpeg.decoder import Decoding, FrameReader
from ..ffmpeg.encoder import Encoding, FrameWriter
from ..ffmpeg.probe import probe
from ..ffmpeg.programs import Check
from ..files import whole_file
from ..quality import convert_to_bgr8, enlarge, put_side_by_side
from .chunks import Chunk, Upscaled
from .frames import VideoFrames

_SECONDS = 5
_LARGEST_PANEL = 1080, 1920  # rows and columns in the middle of larger frames


def write_comparison(chunks: Sequence[Chunk], done: Sequence[Upscaled], target: Path, label: str,
                     check: Check) -> None:
    """Write a clip of a few seconds, without sound, that shows the input, enlarged by bicubic, beside the result.

    Args:
        chunks: Those of the video, whose parts are there.
        done: The result for each.
        target: The file to write, an mp4.
        label: The label of the result.
        check: Called while ffmpeg works; what it raises ends ffmpeg.

    Raises:
        VideoError: the input can be read once only.
        MediaError: decoding or encoding failed.
        OSError: the file can't be written.
    """
    chunk, upscaled, first, count = _find_middle(chunks, done)
    if isinstance(chunk.frames, VideoFrames) and chunk.frames.info.is_stream:
        raise VideoError('no comparison: the input can be read once only')
    with ExitStack() as stack, whole_file(target) as temporary:
        frames = islice(stack.enter_context(closing(_join_frames(chunk, upscaled, label, check))), first, first + count)
        shown = next(frames, None)
        if shown is None:
            raise VideoError('no comparison: the input gave no frame')
        writer = stack.enter_context(FrameWriter(chunk.ffmpeg, temporary, _encode_like(chunk.encoding, shown)))
        for frame in chain([shown], frames):
            check()
            writer.write(frame)
        writer.finish()


def _find_middle(chunks: Sequence[Chunk], done: Sequence[Upscaled]) -> tuple[Chunk, Upscaled, int, int]:
    """Return the chunk in the middle of a video, its result, and which frames are shown: the first, how many."""
    left = sum(upscaled.frames for upscaled in done) // 2
    for chunk, upscaled in zip(chunks, done, strict=True):
        if left < upscaled.frames:
            count = min(round(_SECONDS * chunk.encoding.rate), upscaled.frames)
            return chunk, upscaled, min(max(left - count // 2, 0), upscaled.frames - count), count
        left -= upscaled.frames
    raise VideoError('no comparison: there are no frames')


def _read_parts(chunk: Chunk, upscaled: Upscaled, check: Check) -> Generator[np.ndarray]:
    for part in upscaled.parts:
        info = probe(chunk.ffmpeg, str(chunk.parts.path(part.first)), check)
        with FrameReader(chunk.ffmpeg, info, Decoding(chunk.encoding.rate)) as reader:
            yield from reader


def _join_frames(chunk: Chunk, upscaled: Upscaled, label: str, check: Check) -> Generator[np.ndarray]:
    """Yield each frame of a chunk beside that of its parts."""
    with chunk.frames.open() as source, closing(_read_parts(chunk, upscaled, check)) as results:
        for before, after in zip(source, results, strict=False):
            after = convert_to_bgr8(after)
            window = tuple(slice((side - min(side, most)) // 2, (side + min(side, most)) // 2)
                           for side, most in zip(after.shape[:2], _LARGEST_PANEL, strict=True))
            yield put_side_by_side(enlarge(convert_to_bgr8(before), after)[window], after[window], label)


def _encode_like(encoding: Encoding, frame: np.ndarray) -> Encoding:
    """Return how the clip is encoded: with the colours of the result, as widely playable as can be."""
    return replace(encoding, width=frame.shape[1], height=frame.shape[0], dtype_is_deep=False, codec='libx264',
                   pixel_format='yuv420p', container='mp4', crf=18, preset=None, hdr=None)
