"""Steps of the work that fail for one input, as by a bug of ours; importable in the processes of workers."""
from __future__ import annotations

import logging
import os
import signal
import struct

from tests.support import clips

PICTURE_STEPS = {'reading': struct.error('argument out of range'), 'upscaling': KeyError('gamma'),
                 'writing': AssertionError('never')}
VIDEO_STEPS = {'probing': AttributeError('tags'), 'planning': ZeroDivisionError('division by zero'),
               'decoding': IndexError('list index out of range'), 'encoding': KeyError('gamma'),
               'joining': TypeError('None')}
REPORT = 'a bug of this program; please report it with the file and what -v shows'
WIDTHS = range(1, 31)  # of pictures
VIDEO_WIDTHS = (32, 48, 64, 80, 96)


def make_pictures(folder):
    """Write WIDTH.png, each in one colour: its width."""
    import cv2
    import numpy as np
    folder.mkdir(exist_ok=True)
    for width in WIDTHS:
        cv2.imwrite(str(folder / f'{width}.png'), np.full((4, width, 3), width, np.uint8))


def make_videos(folder):
    """Write WIDTH.mp4, each of an eighth as many frames; return their names."""
    for width in VIDEO_WIDTHS:
        clips.make(folder / f'{width}.mp4', *clips.numbered('8', str(width / 64), f'{width}x32'), *clips.EXACT)
    return [f'{width}.mp4' for width in VIDEO_WIDTHS]


def describe(steps, widths, ending, folder=''):
    """The lines of errors, sorted, where each step fails for the input of a width."""
    lines = []
    for step, width in widths.items():
        name = 'struct.error' if step == 'reading' else type(steps[step]).__name__
        lines.append(f'error: {folder}{width}.{ending}: {name}: {steps[step]}: {REPORT}')
    return sorted(lines)


def break_pictures(widths, replace=setattr):
    """Let each step fail for the pictures of one width.

    Args:
        widths: The widths of the inputs, by step.
        replace: Sets an attribute, for good or for the time of a test.
    """
    from realesrgan import RealESRGANer
    from realesrgan.pictures import worker

    def fail_at(step, width):
        if width == widths.get(step):
            raise PICTURE_STEPS[step]

    def decode(*arguments, real=worker.decode):
        picture = real(*arguments)
        fail_at('reading', picture.pixels.shape[1])
        return picture

    def enhance(upsampler, picture, *arguments, real=RealESRGANer.enhance, **more):
        fail_at('upscaling', picture.shape[1])
        return real(upsampler, picture, *arguments, **more)

    def write(picture, *arguments, real=worker.write):
        fail_at('writing', picture.pixels.shape[1] // 4)
        return real(picture, *arguments)

    replace(worker, 'decode', decode)
    replace(RealESRGANer, 'enhance', enhance)
    replace(worker, 'write', write)


def break_videos(widths, replace=setattr):
    """Let each step fail for the videos of one width, decoding and encoding at the third frame."""
    def fail_at(step, width):
        if width == widths.get(step):
            raise VIDEO_STEPS[step]
    _break_planning(fail_at, replace)
    _break_chunks(fail_at, replace)


def _break_planning(fail_at, replace):
    from realesrgan.videos import inputs, job, source

    def probe(*arguments, real=inputs.probe):
        info = real(*arguments)
        fail_at('probing', info.video.width)
        return info

    def plan(ffmpeg, info, *arguments, real=source.plan_video):
        fail_at('planning', info.video.width)
        return real(ffmpeg, info, *arguments)

    def mux(ffmpeg, parts, info, *arguments, real=job.mux, **more):
        fail_at('joining', info.video.width)
        return real(ffmpeg, parts, info, *arguments, **more)

    replace(inputs, 'probe', probe)
    replace(source, 'plan_video', plan)
    replace(job, 'mux', mux)


def _break_chunks(fail_at, replace):
    from realesrgan.ffmpeg.decoder import FrameReader
    from realesrgan.ffmpeg.encoder import FrameWriter

    def read(reader, real=FrameReader.__iter__):
        for number, frame in enumerate(real(reader)):
            if number == 2:
                fail_at('decoding', frame.shape[1])
            yield frame

    def write(writer, frame, real=FrameWriter.write):
        writer.count = getattr(writer, 'count', 0) + 1
        if writer.count == 3:
            fail_at('encoding', frame.shape[1])
        real(writer, frame)

    replace(FrameReader, '__iter__', read)
    replace(FrameWriter, 'write', write)


def build_picture_worker(options, place, *, widths, build):
    """Build a worker of pictures in a process where steps fail; whatever its place, on the CPU."""
    from realesrgan.pictures.worker import PictureWorker
    from realesrgan.pool.pool import Place
    break_pictures(widths)
    return PictureWorker(options, Place(), build)


def build_worker_that_names_its_place(options, place, build):
    """Build a worker of pictures that stands in for one on a GPU, and logs which."""
    logging.getLogger('realesrgan').info('works for %s', place)
    return build_picture_worker(options, place, widths={}, build=build)


def build_mortal_picture_worker(options, place, *, width, build):
    """Build a worker of pictures on the CPU, whose process is killed at pictures of one width."""
    from realesrgan.pictures.worker import PictureWorker
    from realesrgan.pool.pool import Place

    def build_mortal(*arguments):
        enhancer = build(*arguments)
        enhance = enhancer.enhance

        def enhance_or_die(picture, *more, **named):
            if picture.shape[1] == width:
                os.kill(os.getpid(), signal.SIGKILL)
            return enhance(picture, *more, **named)
        enhancer.enhance = enhance_or_die
        return enhancer
    return PictureWorker(options, Place(), build_mortal)


def build_chunk_worker(options, place, *, widths, **more):
    """Build a worker of videos in a process where steps fail."""
    from realesrgan.videos.worker import ChunkWorker
    break_videos(widths)
    return ChunkWorker(options, place, **more)


def build_job_worker(models_kept, place, *, pictures, videos):
    """Build a worker of the service in a process where steps fail."""
    from realesrgan.web.jobs import JobWorker
    break_pictures(pictures)
    break_videos(videos)
    return JobWorker(models_kept, place)
