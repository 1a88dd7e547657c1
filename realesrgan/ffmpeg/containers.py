"""The containers a video can be written to, one row each. Adding a row also adds a choice to --ext."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Container:
    """What ffmpeg and the players need to know about one container. Codecs and encoders are named as ffmpeg does.

    Attributes:
        muxer: Name of ffmpeg's muxer.
        default_encoder: Video encoder used unless the user asks for another.
        audio: Audio codecs it holds; they are copied.
        audio_encoder: Encoder for all other audio.
        audio_layouts: The only channel layouts that this encoder takes; empty if it takes any.
        subtitles: Subtitle codecs it holds; they are copied.
        subtitle_encoder: Encoder for all other text subtitles. Subtitles that are pictures can't be converted.
        video_encoders: The only video encoders whose streams it holds; empty if it takes any.
        covers: Codecs of the cover pictures it holds.
        covers_are_attachments: Whether a cover is an attached file; otherwise it is a video stream of one frame.
        attachments: Whether it holds other files, such as fonts.
        exact_times: Whether it stores the time stamps of any frame rate without rounding. Where it does not, parts
            that will be joined go into MP4 if that holds their codec.
        chroma: The chroma that its players expect, whatever the input has; '' for that of the input.
        has_key_option: Whether metadata of any key need an option of the muxer.
        hevc_tag: Codec tag for HEVC, or '' for the muxer's own choice.
    """

    muxer: str
    default_encoder: str
    audio: frozenset[str]
    audio_encoder: str
    subtitles: frozenset[str]
    subtitle_encoder: str
    audio_layouts: tuple[str, ...] = ()
    video_encoders: tuple[str, ...] = ()
    covers: frozenset[str] = frozenset()
    covers_are_attachments: bool = False
    attachments: bool = False
    exact_times: bool = True
    chroma: str = ''
    has_key_option: bool = False
    hevc_tag: str = ''


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
        covers=frozenset(('mjpeg', 'png', 'bmp', 'gif', 'webp')), covers_are_attachments=True, attachments=True,
        exact_times=False),  # milliseconds
    'mov': Container(
        muxer='mov', default_encoder='libx264',
        audio=frozenset(('aac', 'mp3', 'mp2', 'ac3', 'eac3', 'alac', *_QUICKTIME_PCM)), audio_encoder='aac',
        subtitles=frozenset(('mov_text',)), subtitle_encoder='mov_text', chroma='420', has_key_option=True,
        hevc_tag='hvc1'),  # no covers: the muxer drops them without a word
    'webm': Container(
        muxer='webm', default_encoder='libvpx-vp9',
        audio=frozenset(('opus', 'vorbis')), audio_encoder='libopus',
        audio_layouts=('mono', 'stereo', '3.0', 'quad', '5.0', '5.1', '6.1', '7.1'),
        subtitles=frozenset(('webvtt',)), subtitle_encoder='webvtt',
        video_encoders=('libvpx', 'libvpx-vp9', 'libaom-av1', 'libsvtav1', 'librav1e', 'av1_nvenc', 'av1_qsv',
                        'vp9_qsv', 'vp8_vaapi', 'vp9_vaapi', 'av1_vaapi', 'av1_amf'),
        exact_times=False),  # milliseconds
}
