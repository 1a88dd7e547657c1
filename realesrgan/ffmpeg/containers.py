"""The containers a video can be written to, one row each, and what each does with the other tracks of an input.

Adding a row also adds a choice to --ext.
"""
from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Container:
    """The properties of a container that ffmpeg and players depend on. Codecs and encoders have ffmpeg's names.

    Attributes:
        muxer: Name of ffmpeg's muxer.
        default_encoder: Video encoder used unless the user asks for another.
        audio: Audio codecs it holds; they are copied.
        audio_encoder: Encoder for all other audio; '' if it holds none.
        audio_layouts: The only channel layouts that this encoder takes; empty if it takes any.
        subtitles: Subtitle codecs it holds; they are copied.
        subtitle_encoder: Encoder for all other text subtitles, or ''. Subtitles that are pictures can't be converted.
        video_encoders: The only video encoders whose streams it holds; empty if it takes any.
        covers: Codecs of the cover pictures it holds.
        attachments: Whether it holds other files, such as fonts; a cover is one then, else a video stream of one frame.
        exact_times: Whether it stores the time stamps of any frame rate without rounding. Where it does not, parts
            that will be joined go into MP4 if that holds their codec.
        chroma: The chroma that its players expect, whatever the input has; '' for that of the input.
        has_key_option: Whether metadata of any key need an option of the muxer.
        hevc_tag: Codec tag for HEVC, or '' for the muxer's own choice.
        holds_alpha: Whether it holds transparency, if the encoder does.
        alpha_encoder: Video encoder used for transparency unless the user asks for another; '' for `default_encoder`.
        is_animation: Whether it is an animated picture, whose frames have durations of their own. Its parts are encoded
            by `default_encoder` without loss, in Matroska, and `videos.animations` writes the whole.
        longest_side: Pixels that a side may have; None for any number.
    """

    muxer: str
    default_encoder: str
    audio: frozenset[str] = frozenset()
    audio_encoder: str = ''
    subtitles: frozenset[str] = frozenset()
    subtitle_encoder: str = ''
    audio_layouts: tuple[str, ...] = ()
    video_encoders: tuple[str, ...] = ()
    covers: frozenset[str] = frozenset()
    attachments: bool = False
    exact_times: bool = True
    chroma: str = ''
    has_key_option: bool = False
    hevc_tag: str = ''
    holds_alpha: bool = False
    alpha_encoder: str = ''
    is_animation: bool = False
    longest_side: int | None = None


_MP4_AUDIO = ('aac', 'mp3', 'mp2', 'ac3', 'eac3', 'alac', 'opus', 'flac', 'dts', 'truehd')
_MATROSKA_PCM = ('pcm_s16le', 'pcm_s16be', 'pcm_s24le', 'pcm_s24be', 'pcm_s32le', 'pcm_s32be', 'pcm_u8', 'pcm_f32le',
                 'pcm_f64le')
_QUICKTIME_PCM = (*_MATROSKA_PCM, 'pcm_f32be', 'pcm_f64be', 'pcm_s8', 'pcm_alaw', 'pcm_mulaw')

#: By file name extension.
CONTAINERS = {
    'mp4': Container(
        muxer='mp4', default_encoder='libx264',
        audio=frozenset(_MP4_AUDIO), audio_encoder='aac',
        subtitles=frozenset(('mov_text',)), subtitle_encoder='mov_text',
        covers=frozenset(('mjpeg', 'png', 'bmp')), chroma='420', has_key_option=True,
        hevc_tag='hvc1'),  # Apple's players refuse the muxer's own choice, hev1
    'mkv': Container(
        muxer='matroska', default_encoder='libx264',
        audio=frozenset((*_MP4_AUDIO, 'mp1', 'vorbis', 'wmav1', 'wmav2', 'wmapro', 'tta', 'wavpack', 'mlp', 'adpcm_ms',
                         'adpcm_ima_wav', *_MATROSKA_PCM)), audio_encoder='aac',
        subtitles=frozenset(('subrip', 'ass', 'ssa', 'webvtt', 'hdmv_pgs_subtitle', 'dvd_subtitle', 'dvb_subtitle',
                             'hdmv_text_subtitle')), subtitle_encoder='subrip',
        covers=frozenset(('mjpeg', 'png', 'bmp', 'gif', 'webp')), attachments=True,
        exact_times=False,  # milliseconds
        holds_alpha=True),
    'mov': Container(
        muxer='mov', default_encoder='libx264',
        audio=frozenset(('aac', 'mp3', 'mp2', 'ac3', 'eac3', 'alac', *_QUICKTIME_PCM)), audio_encoder='aac',
        subtitles=frozenset(('mov_text',)), subtitle_encoder='mov_text', chroma='420', has_key_option=True,
        hevc_tag='hvc1', holds_alpha=True, alpha_encoder='prores_ks'),  # no covers: the muxer drops them in silence
    'webm': Container(
        muxer='webm', default_encoder='libvpx-vp9',
        audio=frozenset(('opus', 'vorbis')), audio_encoder='libopus',
        audio_layouts=('mono', 'stereo', '3.0', 'quad', '5.0', '5.1', '6.1', '7.1'),
        subtitles=frozenset(('webvtt',)), subtitle_encoder='webvtt',
        video_encoders=('libvpx', 'libvpx-vp9', 'libaom-av1', 'libsvtav1', 'librav1e', 'av1_nvenc', 'av1_qsv',
                        'vp9_qsv', 'vp8_vaapi', 'vp9_vaapi', 'av1_vaapi', 'av1_amf'),
        exact_times=False,  # milliseconds
        holds_alpha=True),
    'gif': Container(
        muxer='gif', default_encoder='ffv1', video_encoders=('ffv1',), holds_alpha=True, is_animation=True,
        longest_side=65535),
    'apng': Container(
        muxer='apng', default_encoder='ffv1', video_encoders=('ffv1',), holds_alpha=True, is_animation=True,
        longest_side=1_000_000),
    'webp': Container(
        muxer='webp', default_encoder='ffv1', video_encoders=('ffv1',), holds_alpha=True, is_animation=True,
        longest_side=16383),
}


# ---- the other tracks ----

_TEXT_SUBTITLES = ('subrip', 'srt', 'ass', 'ssa', 'webvtt', 'mov_text', 'text', 'microdvd', 'subviewer', 'subviewer1',
                   'sami', 'realtext', 'mpl2', 'vplayer', 'jacosub', 'pjs', 'stl', 'ttml')
#: QuickTime's tracks of a time code and of chapters. ffmpeg makes a tag and chapters of them, and such tracks of those.
_CARRIED_OTHERWISE = ('tmcd', 'text')
_PICTURE_SUBTITLES = ('hdmv_pgs_subtitle', 'dvd_subtitle', 'dvb_subtitle', 'xsub')


@dataclass(frozen=True)
class Track:
    """A stream of a file.

    Attributes:
        index: Its number in the file.
        kind: 'video', 'audio', 'subtitle', 'attachment' or 'data'.
        codec: ffmpeg's name of its codec; for data without one, the four letters in the file.
        is_cover: Whether it is a picture that illustrates the file, not a video.
        language: As tagged, or ''.
        file_name: Of an attachment or cover, or ''.
        start: Seconds on the file's clock, or None.
        channel_layout: ffmpeg's name of it, or ''.
    """

    index: int
    kind: str
    codec: str
    is_cover: bool = False
    language: str = ''
    file_name: str = ''
    start: Fraction | None = None
    channel_layout: str = ''

    def __str__(self) -> str:
        kind = 'cover' if self.is_cover else self.kind
        return f'{kind} track {self.index} ({", ".join(filter(None, (self.file_name or self.codec, self.language)))})'


def plan_tracks(tracks: Sequence[Track], container: str) -> dict[Track, str]:
    """Return the tracks that a container takes, each with its encoder: 'copy', or ffmpeg's name of one.

    Conversions and omissions are logged as warnings.

    Args:
        tracks: All tracks but the video that is upscaled.
        container: A key of `CONTAINERS`.
    """
    encoders = {}
    for track in tracks:
        if track.kind == 'data' and track.codec in _CARRIED_OTHERWISE:
            continue
        encoder = _choose_encoder(track, CONTAINERS[container])
        if encoder is None:
            logger.warning('%s is left out: %s', track, _explain_omission(track, container))
            continue
        encoders[track] = encoder
        if encoder != 'copy':
            logger.warning('%s is converted to %s because %s does not hold it', track, encoder, container)
    return encoders


def _choose_encoder(track: Track, container: Container) -> str | None:
    """Return 'copy', the encoder to convert with, or None if the container can't hold the track."""
    if track.is_cover:
        return 'copy' if track.codec in container.covers else None
    if track.kind == 'audio' and track.codec != 'unknown':
        return 'copy' if track.codec in container.audio else container.audio_encoder or None
    if track.kind == 'subtitle':
        if track.codec in container.subtitles:
            return 'copy'
        return container.subtitle_encoder or None if track.codec in _TEXT_SUBTITLES else None
    return 'copy' if track.kind == 'attachment' and container.attachments else None


def _explain_omission(track: Track, container: str) -> str:
    if track.kind == 'video' and not track.is_cover:
        return 'only one video track is upscaled'
    if track.kind == 'data':
        return 'data tracks are not carried'
    if track.kind in ('audio', 'subtitle') and track.codec == 'unknown':
        return 'this ffmpeg does not know its codec; a newer one may'
    if track.codec == 'eia_608':
        return 'closed captions are not carried'
    if track.codec in _PICTURE_SUBTITLES:
        return f'{container} does not hold subtitles that are pictures'
    if track.kind == 'subtitle':
        return f'{container} does not hold it, and ffmpeg can\'t convert it'
    return f'{container} does not hold it'
