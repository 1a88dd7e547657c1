"""Options for upscaling videos."""
from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from ..ffmpeg.containers import CONTAINERS
from ..pictures.formats import MOST_PIXELS, list_writable_extensions
from ..workers.options import (
    ALPHA_UPSAMPLERS,
    ClusterOptions,
    FaceOptions,
    UpsamplerOptions,
    require_choice,
    require_outscale,
)

#: What `--deinterlace` takes.
DEINTERLACE = ('auto', 'on', 'off')


@dataclass(frozen=True)
class VideoOptions:
    """How videos are upscaled, and where. Wrong values raise `UsageError`.

    Attributes:
        upsampler: The network and how it runs.
        faces: How faces are restored; None leaves them alone.
        gpu_ids: Numbers of the GPUs; none for the first, or the CPU where there is none.
        workers_per_gpu: Processes on each GPU, or on the CPU, which they share.
        outscale: Final size as a multiple of the input's; None is 4 for the models of `models.MODELS`, and for weights
            of others the scale of their network.
        suffix: Results are called NAME_SUFFIX; '' for NAME alone.
        extension: 'auto' (mp4, or for a picture its own), a key of `ffmpeg.containers.CONTAINERS`, or, for pictures
            only, of `pictures.formats.FORMATS`.
        alpha_upsampler: 'realesrgan' or 'bicubic', for pictures.
        skip_existing: Whether to leave out inputs whose result exists.
        max_pixels: How many pixels a frame or a picture may have.
        fps: Frames a second of the result, or None for the input's (24 for a folder of frames).
        start, end: Seconds from the start of the file, or None.
        deinterlace: 'auto', 'on' or 'off'.
        extract_first: Whether all frames are written to files before the first is upscaled; not of a stream.
        codec: ffmpeg's name of the encoder, or None for the container's default.
        crf: Constant rate factor, or None for the encoder's default.
        preset: Of the encoder, or None for its default.
        pixel_format: ffmpeg's name, or None for depth and chroma of the input, which in mp4 and mov becomes 4:2:0.
        ffmpeg: ffmpeg's path, or the folder of ffmpeg and ffprobe, or a name to look for in PATH.
        chunk: Seconds of the result in a part, 0 for one part; None for about a minute of work, but from 1 to 10 s.
        restart: Whether parts of a run with other options are thrown away.
        keep_parts: Whether the parts stay when the result is there.
        dry_run: Whether to find out only what would be done, and what it would take.
        check: Whether some frames are compared with their inputs, which `Examined` reports.
        compare: Whether NAME_compare.mp4 shows some seconds of each result beside its input.
        cluster: The Ray cluster that upscales the parts; None for this machine.
    """

    upsampler: UpsamplerOptions = field(default_factory=lambda: UpsamplerOptions('realesr-animevideov3'))
    faces: FaceOptions | None = None
    gpu_ids: tuple[int, ...] = ()
    workers_per_gpu: int = 1
    outscale: float | None = None
    suffix: str = 'out'
    extension: str = 'auto'
    alpha_upsampler: str = 'realesrgan'
    skip_existing: bool = False
    max_pixels: int = MOST_PIXELS
    fps: Fraction | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    deinterlace: str = 'auto'
    extract_first: bool = False
    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pixel_format: str | None = None
    ffmpeg: str = 'ffmpeg'
    chunk: Fraction | None = None
    restart: bool = False
    keep_parts: bool = False
    dry_run: bool = False
    check: bool = False
    compare: bool = False
    cluster: ClusterOptions | None = None

    def __post_init__(self) -> None:
        require_choice('extension', self.extension, ['auto', *CONTAINERS, *list_writable_extensions()])
        require_choice('alpha_upsampler', self.alpha_upsampler, ALPHA_UPSAMPLERS)
        require_choice('deinterlace', self.deinterlace, DEINTERLACE)
        require_outscale(self.outscale)

    @property
    def container(self) -> str:
        """The container of videos, a key of `CONTAINERS`."""
        return self.extension if self.extension in CONTAINERS else 'mp4'
