"""What a result took to make, and how good it is: figures that workers measure and reports show."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

#: What a picture or a video goes through, in order.
STAGES = ('read', 'network', 'write')


@dataclass(frozen=True)
class Effort:
    """What making a result took.

    Attributes:
        engine, device, precision: What ran the network, where, and how exactly.
        tiles: Into how many tiles a picture, or a frame, was cut.
        seconds: Of each of `STAGES`. They overlap, and those of several workers add up.
        host_bytes: The most memory of the process that computed, since it started; 0 if unknown.
        gpu_bytes: The most memory that PyTorch took on the GPU; 0 if unknown.
    """

    engine: str = ''
    device: str = ''
    precision: str = ''
    tiles: int = 1
    seconds: Mapping[str, float] = field(default_factory=dict)
    host_bytes: int = 0
    gpu_bytes: int = 0

    def __add__(self, other: Self) -> Self:
        """Return what both took together: the sum of the seconds, the larger of all else."""
        return replace(self, seconds=dict(Counter(self.seconds) + Counter(other.seconds)),
                       tiles=max(self.tiles, other.tiles), host_bytes=max(self.host_bytes, other.host_bytes),
                       gpu_bytes=max(self.gpu_bytes, other.gpu_bytes))


@dataclass(frozen=True)
class Quality:
    """How a result compares with what it was made of. Levels are those of 8 bits, shares are of 1.

    Attributes:
        psnr: Of the result, scaled back to the input's size, against the input, in dB.
        ssim: Structural similarity of the same, up to 1; None of pictures below 7 pixels.
        niqe_before, niqe_after: Naturalness (NIQE) of the input enlarged by bicubic, and of the result; lower is
            better. None where it can't be had: of small or even pictures, or without basicsr.
        clipped_before, clipped_after: Share of values that are at the lower or upper end of their range.
        colour_shift: By how many levels the mean of blue, green and red has moved.
        not_finite: Share of values that are not finite.
        constant: Share of the area that is constant although the input's is not.
        black: Share of the area that is black although the input's is not.
        tile_step: By how many levels neighbouring pixels differ more at borders of tiles than beside them; None
            without tiles.
        findings: What looks wrong, a line each.
    """

    psnr: float
    ssim: float | None
    niqe_before: float | None
    niqe_after: float | None
    clipped_before: float
    clipped_after: float
    colour_shift: tuple[float, float, float]
    not_finite: float
    constant: float
    black: float
    tile_step: float | None
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preview:
    """Small pictures for a report, as JPEG files.

    Attributes:
        thumbnail: The whole result.
        before: The place where both differ most, of the input enlarged by bicubic.
        after: The same place of the result.
    """

    thumbnail: bytes
    before: bytes
    after: bytes
