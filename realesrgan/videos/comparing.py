"""Show a video beside its source: a short clip from the middle."""
from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import VideoError
from ..ffmpeg.decoder import Decoding, FrameReader
from ..ffmpeg.encoder import FrameWriter
from ..ffmpeg.probe import probe
from ..ffmpeg.programs import Check
from ..files import whole_file
from ..quality.comparisons import convert_to_bgr8, enlarge, put_side_by_side
from .frames import VideoFrames
from .worker import Chunk, Upscaled

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
    writer = None
    with (ExitStack() as stack, whole_file(target) as temporary, chunk.frames.open(chunk.ffmpeg) as source,
          closing(read_parts(chunk, upscaled, check)) as results):
        for before, after in islice(zip(source, results, strict=False), first, first + count):
            check()
            after = convert_to_bgr8(after)
            window = tuple(slice((side - min(side, most)) // 2, (side + min(side, most)) // 2)
                           for side, most in zip(after.shape[:2], _LARGEST_PANEL, strict=True))
            shown = put_side_by_side(enlarge(convert_to_bgr8(before), after)[window], after[window], label)
            if writer is None:  # with the colours of the result, and as widely playable as can be
                writer = stack.enter_context(FrameWriter(chunk.ffmpeg, temporary, replace(
                    chunk.encoding, width=shown.shape[1], height=shown.shape[0], dtype_is_deep=False, alpha=False,
                    codec='libx264', pixel_format='yuv420p', container='mp4', crf=18, preset=None, hdr=None)))
            writer.write(shown)
        if writer is None:
            raise VideoError('no comparison: the input gave no frame')
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


def read_parts(chunk: Chunk, upscaled: Upscaled, check: Check) -> Generator[np.ndarray]:
    """Yield the frames in the parts of a chunk."""
    for part in upscaled.parts:
        info = probe(chunk.ffmpeg, str(chunk.parts.path(part.first)), check)
        with FrameReader(chunk.ffmpeg, info, Decoding(chunk.encoding.rate, alpha=chunk.encoding.alpha)) as reader:
            yield from reader
