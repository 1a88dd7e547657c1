"""Decide how a result is encoded: codec, pixel format, size, rate and colour."""
from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction

from ..ffmpeg.colour import HDR_ENCODERS, PixelFormat, infer_colour, is_deep, is_rgb, parse_pixel_format
from ..ffmpeg.containers import CONTAINERS
from ..ffmpeg.encoder import Encoding, choose_codec, choose_output_pixel_format, choose_part_container
from ..ffmpeg.probe import read_hdr
from ..ffmpeg.programs import Check, FFmpeg
from ..options import VideoOptions
from .frames import FrameShape
from .plan import VideoPlan

logger = logging.getLogger(__name__)

_DEFAULT_RATE = Fraction(24)  # of a folder of frames


def encode_like_video(ffmpeg: FFmpeg, plan: VideoPlan, options: VideoOptions, check: Check | None = None) -> Encoding:
    """Return how the parts of a video are encoded: rate, shape of pixels, colour, chroma and depth of the input.

    Args:
        ffmpeg: The programs.
        plan: How the video is read.
        options: The caller's.
        check: Called several times a second while ffprobe works; what it raises ends ffprobe.

    Raises:
        MediaError: the encoder is not there, or does not go with the container or the pixel format.
    """
    video = plan.video
    codec = choose_codec(options.vcodec, options.container)
    pixel_format = _choose_pixel_format(ffmpeg, codec, video.pixel_format, options)
    colour = video.colour
    if is_rgb(video.pixel_format):
        colour = replace(colour, range='tv')  # it becomes Y'CbCr, which players expect in limited range
    hdr = read_hdr(ffmpeg, plan.info, check)
    if hdr is not None and codec not in HDR_ENCODERS:
        logger.warning('%s does not take HDR metadata (mastering display, light level); %s do', codec,
                       ', '.join(HDR_ENCODERS))
    return Encoding(
        width=_scale_side(video.width, options.outscale), height=_scale_side(video.height, options.outscale),
        dtype_is_deep=is_deep(video.pixel_format), rate=plan.decoding.rate, sample_aspect=video.sample_aspect,
        colour=colour, codec=codec, pixel_format=pixel_format,
        container=choose_part_container(codec, options.container), crf=options.crf, preset=options.preset, hdr=hdr)


def _choose_pixel_format(ffmpeg: FFmpeg, codec: str, source: str, options: VideoOptions) -> str:
    """Return the pixel format of the result, and log where it is not that of the source."""
    given, chroma = parse_pixel_format(source), CONTAINERS[options.container].chroma
    nearest = choose_output_pixel_format(ffmpeg, codec, options.pix_fmt, given)
    if options.pix_fmt is not None:
        return nearest
    chosen = nearest
    if chroma and parse_pixel_format(nearest).chroma != chroma:
        plain = choose_output_pixel_format(ffmpeg, codec, None, replace(given, chroma=chroma))
        chosen = plain if parse_pixel_format(plain).chroma == chroma else nearest
    if parse_pixel_format(nearest) != given:
        logger.warning('%s does not take the %s of the input: encoded as %s', codec, given.name, chosen)
    elif chosen != nearest and given.chroma != 'gray':
        logger.info('the input is %s: encoded as %s, because players expect that of %s; --pix_fmt %s keeps all of its '
                    'chroma', 'RGB' if is_rgb(source) else ':'.join(given.chroma), chosen, options.container, nearest)
    return chosen


def encode_frames(ffmpeg: FFmpeg, shape: FrameShape, options: VideoOptions) -> Encoding:
    """Return how the parts of a folder of frames are encoded.

    Raises:
        MediaError: see `encode_like_video`.
    """
    codec = choose_codec(options.vcodec, options.container)
    height = _scale_side(shape.height, options.outscale)
    wanted = PixelFormat('420', 10 if shape.deep else 8)
    pixel_format = choose_output_pixel_format(ffmpeg, codec, options.pix_fmt, wanted)
    return Encoding(
        width=_scale_side(shape.width, options.outscale), height=height, dtype_is_deep=shape.deep,
        rate=options.fps or _DEFAULT_RATE, sample_aspect=Fraction(1), colour=infer_colour(height, {}), codec=codec,
        pixel_format=pixel_format, container=choose_part_container(codec, options.container), crf=options.crf,
        preset=options.preset)


def _scale_side(side: int, outscale: float | None) -> int:
    assert outscale is not None, 'upscale_videos has put the model\'s in its place'
    return max(int(side * outscale), 1)  # as RealESRGANer.enhance does
