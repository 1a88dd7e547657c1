"""Videos, streams and folders of frames: planned, cut into chunks, upscaled, joined."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..options import VideoOptions
    from .run import upscale_videos

__all__ = ['VideoOptions', 'upscale_videos']


def __getattr__(name: str) -> Any:
    if name == 'VideoOptions':
        from ..options import VideoOptions
        return VideoOptions
    if name == 'upscale_videos':
        from .run import upscale_videos
        return upscale_videos
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
