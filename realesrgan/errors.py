"""Every error the project raises on purpose. Each message is written for the person who runs the program.

    RealESRGANError              what the user can act on
    +-- RunError                 no other input would fare better, so it ends the run
    |   +-- UsageError           options that contradict each other or the input; exit status 2
    |   +-- WeightsError         weights that are missing, damaged, dangerous or of another network
    |   |   +-- DownloadError        a file could not be fetched
    |   |   +-- UnknownNetworkError  a state dict of no known architecture
    |   +-- DeviceError          a device that can't be used
    |   |   +-- NoSuchDeviceError    a device that is not there
    |   +-- EngineError          an engine that can't run here
    |   |   +-- KernelError          the compiled part of an engine is missing or does not work
    |   +-- FacePackagesError    a package that --face_enhance needs is not installed
    |   +-- DiskFullError        too little room on the disk
    |   +-- ClusterError         a cluster that is not there, or that can't be used
    +-- NonFiniteError           a network gave NaN or infinity
    +-- InputError               an input that names nothing to work on
    +-- ImageError               a picture that can't be read or written
    |   +-- FrameError           a picture that does not fit the other frames of its folder
    +-- VideoError               a video that can't be upscaled as asked
    +-- MediaError               ffmpeg is missing or failed; the message holds what it said
    |   +-- MediaWriteError      ffmpeg could not write its file
    +-- PartsError               parts that another run is writing, or that belong to another run
    +-- WorkerError              a worker died, or failed through no fault of its task
    +-- BugError                 an error that nobody foresaw; the message asks for a report
    BrokenDeviceError            a device failed while it computed, and may not do so again in this process; no
                                 `RealESRGANError`, so that a pool replaces the worker and tries once more
    Cancelled                    the caller's cancel event was set; a BaseException, so that code which goes on
                                 after a failed file does not go on after this

Besides these, reading and writing files raises OSError, and a lack of memory MemoryError.

One input never ends the others: whatever goes wrong with a picture or a video is that input's failure, unless it is a
`RunError`. Where an input's failure is caught, `explain` makes a `BugError` of what is none of the above.
"""

from __future__ import annotations

import traceback


class RealESRGANError(Exception):
    """Something the user can act on: the message says what failed, the offending value and what to do."""


class RunError(RealESRGANError):
    """No other input would fare better, so it ends the run."""


class UsageError(RunError):
    """Options that contradict each other or the input; the scripts exit with status 2."""


class WeightsError(RunError):
    """Weights that are missing, damaged, dangerous or of another network."""


class DownloadError(WeightsError):
    """A file could not be fetched."""


class UnknownNetworkError(WeightsError):
    """A state dict that fits no known architecture."""


class DeviceError(RunError):
    """A device was asked for that can't be used."""


class NoSuchDeviceError(DeviceError):
    """A device was asked for that is not there; the message names those that are."""


class EngineError(RunError):
    """An engine was asked for that can't run here."""


class KernelError(EngineError):
    """The compiled part of an engine is missing or does not work on this machine."""


class NonFiniteError(RealESRGANError):
    """A network gave a value that is not a number or is infinite."""


class FacePackagesError(RunError):
    """A package that face enhancement needs is not installed."""


class InputError(RealESRGANError):
    """An input that names nothing to work on."""


class ImageError(RealESRGANError):
    """A picture that can't be read or written; the message does not name the file."""


class FrameError(ImageError):
    """A picture that does not fit the other frames of its folder."""


class VideoError(RealESRGANError):
    """A video that can't be upscaled as asked."""


class MediaError(RealESRGANError):
    """ffmpeg is missing or failed; what it said is in the message."""


class MediaWriteError(MediaError):
    """ffmpeg could not write its file: the disk is full, or fails."""


class PartsError(RealESRGANError):
    """Parts that another run is writing, or that belong to another run."""


class DiskFullError(RunError):
    """There is too little room on the disk."""


class WorkerError(RealESRGANError):
    """A worker died, or failed through no fault of its task; the message says how."""


class ClusterError(RunError):
    """A cluster is not there, or none of its nodes can take part."""


class BugError(RealESRGANError):
    """An error that nobody foresaw: a bug of this program. Its cause is that error."""


class BrokenDeviceError(RuntimeError):
    """A device failed while it computed, and may not do so again in this process; another process may try again.

    Engines raise it, so that their callers need not guess: after most errors of CUDA, all that follows in the process
    fails too. Its cause is the library's error.
    """


class Cancelled(BaseException):  # like asyncio.CancelledError, no Exception
    """The run was cancelled through the caller's event; finished results and parts are kept."""


def explain(error: Exception) -> Exception:
    """Return an error of an input as its user is told it: one that nobody foresaw becomes a `BugError`."""
    if isinstance(error, (RealESRGANError, OSError, MemoryError)):
        return error
    if isinstance(error, ImportError) and 'libGL' in str(error):
        advice = ('Install it (Debian: apt-get install libgl1), or take the OpenCV that needs none: '
                  'pip uninstall opencv-python; pip install opencv-python-headless')
        return RealESRGANError(f"OpenCV can't be loaded: {error}. {advice}")
    if isinstance(error, ModuleNotFoundError) and error.name == 'torch':
        return RunError('this needs PyTorch, which is not installed: pip install torch')
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ in ('builtins', __name__) else f'{kind.__module__}.{kind.__qualname__}'
    fault = 'a bug of this program'
    if isinstance(error, BrokenDeviceError):
        fault = 'a failing device, or its driver'
    elif isinstance(error, RuntimeError) and not isinstance(error, (RecursionError, NotImplementedError)):
        fault += ', or a failing device'  # which is all that PyTorch and OpenVINO raise then
    bug = BugError(f'{name}: {flatten_message(error)}: {fault}; please report it with the file and what -v shows')
    bug.__cause__ = error
    return bug


def flatten_message(error: BaseException) -> str:
    """Return the message of an error as one line."""
    return ' '.join(str(error).split()) or type(error).__name__


def forget_locals(error: BaseException) -> None:
    """Let go of the memory that the functions an error has passed hold on to; its traceback stays.

    None of them may be a generator that goes on.
    """
    passed: BaseException | None = error
    while passed is not None:
        traceback.clear_frames(passed.__traceback__)
        passed = passed.__cause__ or passed.__context__
