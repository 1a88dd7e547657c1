"""Which codecs of cards work on this machine: found out by using them, because what ffmpeg lists needs a driver too."""
from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import numpy as np

from ..errors import MediaError
from .colour import Colour, PixelFormat
from .decoder import Decoding, FrameReader, require_video
from .encoder import Encoding, FrameWriter, choose_output_pixel_format
from .families import DECODED_FORMATS, EXACT_CODECS, FAMILIES, Family, find_family
from .probe import MediaInfo
from .programs import FFmpeg, run

logger = logging.getLogger(__name__)

_COMPARED = 3  # frames
_PLAIN = Encoding(640, 368, False, Fraction(25), Fraction(1), Colour('tv', 'bt709', 'bt709', 'bt709'), codec='',
                  pixel_format='', container='mkv')


# ---- decoding ----

def choose_hwaccel(programs: FFmpeg, info: MediaInfo, decoding: Decoding, asked: str) -> str:
    """Return what decodes a video: what was asked for if it gives the frames that the CPU gives, else 'none'.

    The first frames are decoded both ways. A log line says what decodes, and why it is the CPU.

    Args:
        programs: The programs.
        info: The video.
        decoding: How it will be decoded.
        asked: A choice of --hwaccel; with 'auto' the first that works is taken.
    """
    if asked == 'none':
        return asked
    refusal, names = _explain_refusal(info, decoding), [asked]
    if not refusal:
        listed = list_hwaccels(programs)
        if asked == 'auto':
            names = [family.hwaccel for family in FAMILIES if family.hwaccel in listed]
            refusal = '' if names else 'ffmpeg has no decoders of cards'
        elif asked not in listed:
            refusal = f'this ffmpeg has only {", ".join(listed) or "the CPU"}'
    if not refusal:
        plain, reasons = Decoding(decoding.rate), []
        by_cpu, _ = _read_first(programs, info, plain)
        for name in names:
            by_card, reason = _read_first(programs, info, replace(plain, hwaccel=name))
            if by_cpu and len(by_card) == len(by_cpu) and all(map(np.array_equal, by_card, by_cpu)):
                logger.info('decoded by --hwaccel %s', name)
                return name
            reasons.append(f'{name}: ' * (asked == 'auto') + (reason or 'it gives other frames'))
        refusal = '; '.join(reasons)
    logger.log(logging.INFO if asked == 'auto' else logging.WARNING, '--hwaccel %s: decoded by the CPU instead: %s',
               asked, refusal)
    return 'none'


def list_hwaccels(programs: FFmpeg) -> list[str]:
    """Return the names that ffmpeg's option -hwaccel takes."""
    return run([programs.ffmpeg, '-hide_banner', '-hwaccels'])[0].decode(errors='replace').split('\n', 1)[-1].split()


def _explain_refusal(info: MediaInfo, decoding: Decoding) -> str:
    """Return why a video is not decoded by any card; '' if it may be."""
    video = require_video(info)
    if info.is_stream:
        return 'a stream can be read only once, so frames can\'t be compared'
    if decoding.alpha:
        return 'cards don\'t decode transparency'
    if video.codec not in EXACT_CODECS:
        return f'decoders of {video.codec} don\'t all give the same frames'
    if video.pixel_format not in DECODED_FORMATS:
        return f'it is {video.pixel_format}, and only {" and ".join(DECODED_FORMATS)} are sure to come out the same'
    return ''


def _read_first(programs: FFmpeg, info: MediaInfo, decoding: Decoding) -> tuple[list[np.ndarray], str]:
    """Return the first frames of a video, and why there are no more, if anything is wrong."""
    try:
        with FrameReader(programs, info, decoding) as reader:
            frames = list(islice(reader, _COMPARED))
            return frames, _shorten(reader.damage.reason) if reader.damage else ''
    except MediaError as error:
        return [], _shorten(error)


def _shorten(reason: object) -> str:
    """Return the first thing that ffmpeg reported: what it says next follows from that."""
    first = re.sub(r'^ffmpeg failed \(.*?\): |\[\w+\] ', '', str(reason)).split('; ')[0].rstrip('.')
    return f'no such card, driver or permission ({first})' if first.startswith('Device creation failed') else first


# ---- encoding ----

def require_encoder(programs: FFmpeg, encoding: Encoding) -> None:
    """Check that an encoder of a card starts on this machine, by encoding a black frame; those of the CPU do.

    Raises:
        MediaError: it does not, or takes no such --crf; the message says why.
    """
    family = find_family(encoding.codec)
    if family is None:
        return
    best, worst = family.get_crf_range(encoding.codec)
    unused = family.list_unused(encoding.codec, encoding.crf, encoding.preset)
    if encoding.crf is not None and 'crf' not in unused and not best <= encoding.crf <= worst:
        raise MediaError(f'--crf {encoding.crf:g}: {encoding.codec} takes {best:g} to {worst:g}')
    try:
        _encode_black(programs, encoding)
    except MediaError as error:
        raise MediaError(f'--vcodec {encoding.codec}: it can\'t start on this machine: {_shorten(error)}; leave '
                         '--vcodec out to encode on the CPU') from None
    for option in unused:
        logger.warning('--%s has no effect on %s', option, encoding.codec)


def _encode_black(programs: FFmpeg, encoding: Encoding) -> None:
    dtype = np.uint16 if encoding.dtype_is_deep else np.uint8
    with FrameWriter(programs, None, encoding) as writer:
        writer.write(np.zeros((encoding.height, encoding.width, encoding.channels), dtype))
        writer.finish()


# ---- the lines of `--list_devices` ----

def describe_codecs(programs: FFmpeg) -> str:
    """Return what works on this machine of the codecs of cards that ffmpeg has, a line for each family."""
    lines = list(_list_lines(programs))
    version = '.'.join(map(str, programs.version))
    return '\n'.join([f'codecs of cards in {programs.ffmpeg}, version {version}:' + ' none' * (not lines), *lines])


def _list_lines(programs: FFmpeg) -> Iterator[str]:
    hwaccels = list_hwaccels(programs)
    text = run([programs.ffmpeg, '-hide_banner', '-encoders'])[0].decode(errors='replace')
    names = [words[1] for line in text.splitlines() if len(words := line.split()) > 1 and words[0].startswith('V')]
    for family in FAMILIES:
        decodes = family.hwaccel in hwaccels
        encoders = [name for name in names if name.endswith(family.ending)
                    and name.removesuffix(family.ending) in EXACT_CODECS]
        if decodes or encoders:
            yield _describe_family(programs, family, encoders, decodes=decodes)


def _describe_family(programs: FFmpeg, family: Family, encoders: list[str], *, decodes: bool) -> str:
    working, reasons = [], []
    if decodes:
        try:
            run([*programs.base_command, '-init_hw_device', family.hwaccel, '-f', 'lavfi', '-i', 'nullsrc=size=16x16',
                 '-frames:v', '1', '-f', 'null', '-'])
            working.append(f'--hwaccel {family.hwaccel} decodes')
        except MediaError as error:
            return f'  {family.hwaccel}: not here: {_shorten(error)}'
    started = []
    for encoder in encoders:
        try:
            _encode_black(programs, replace(_PLAIN, codec=encoder, pixel_format=choose_output_pixel_format(
                programs, encoder, None, PixelFormat('420', 8))))
            started.append(encoder)
        except MediaError as error:
            reasons.append(_shorten(error))
    if started:
        working.append(f'--vcodec {", ".join(started)} encode{"s" * (len(started) == 1)}')
    name = family.hwaccel or family.ending.removeprefix('_')
    return f'  {name}: ' + ('; '.join(working) or f'not here: {reasons[0]}')
