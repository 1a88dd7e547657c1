"""Steps of the work that fail for one input, as by a bug of ours; importable in the processes of workers."""
from __future__ import annotations

import os
import signal
import struct
from functools import partial

PICTURE_STEPS = {'reading': struct.error('argument out of range'), 'upscaling': KeyError('gamma'),
                 'writing': AssertionError('never')}
WORKER_STEPS = {'decoding': IndexError('list index out of range'), 'encoding': KeyError('gamma')}  # of videos
VIDEO_STEPS = {'probing': AttributeError('tags'), 'planning': ZeroDivisionError('division by zero'), **WORKER_STEPS,
               'joining': TypeError('None')}


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

    def enhance(upsampler, picture, *arguments, real=RealESRGANer.enhance):
        fail_at('upscaling', picture.shape[1])
        return real(upsampler, picture, *arguments)

    def write(picture, *arguments, real=worker.write):
        fail_at('writing', picture.pixels.shape[1] // 4)
        return real(picture, *arguments)

    replace(worker, 'decode', decode)
    replace(RealESRGANer, 'enhance', enhance)
    replace(worker, 'write', write)


def break_videos(widths, replace=setattr):
    """Let the steps of workers fail at the third frame of the videos of one width; see `break_pictures`."""
    from realesrgan.ffmpeg.decoder import FrameReader
    from realesrgan.ffmpeg.encoder import FrameWriter

    def read(reader, real=FrameReader.__iter__):
        for number, frame in enumerate(real(reader)):
            if number == 2 and frame.shape[1] == widths.get('decoding'):
                raise WORKER_STEPS['decoding']
            yield frame

    def write(writer, frame, real=FrameWriter.write):
        writer.count = getattr(writer, 'count', 0) + 1
        if writer.count == 3 and frame.shape[1] == widths.get('encoding'):
            raise WORKER_STEPS['encoding']
        real(writer, frame)

    replace(FrameReader, '__iter__', read)
    replace(FrameWriter, 'write', write)


def break_driver(names, replace):
    """Let the steps of videos that are not of workers fail for one input each, given by its name."""
    from realesrgan.videos import inputs, source, upscale

    def fail_at(step, name):
        if name == names.get(step):
            raise VIDEO_STEPS[step]

    def probe(ffmpeg, name, check, real=inputs.probe):
        fail_at('probing', name)
        return real(ffmpeg, name, check)

    def plan(ffmpeg, info, *arguments, real=source.plan_video):
        fail_at('planning', info.source)
        return real(ffmpeg, info, *arguments)

    def join(parts, done, rate, target, join_list, real=upscale.join_parts):
        fail_at('joining', target.name.replace('_out', ''))
        return real(parts, done, rate, target, join_list)

    replace(inputs, 'probe', probe)
    replace(source, 'plan_video', plan)
    replace(upscale, 'join_parts', join)


def build_picture_worker(options, faces, results, max_pixels, place, *, widths, build):
    """Build a worker of pictures in a process where steps fail; whatever its place, on the CPU."""
    from realesrgan.pictures.worker import PictureWorker
    from realesrgan.workers.options import Place
    break_pictures(widths)
    return PictureWorker.build(options, faces, results, max_pixels, Place(), build)


def build_mortal_picture_worker(options, faces, results, max_pixels, place, *, width, build):
    """Build a worker of pictures on the CPU, whose process is killed at pictures of one width."""
    from realesrgan.pictures.worker import PictureWorker
    from realesrgan.workers.options import Place
    worker = PictureWorker.build(options, faces, results, max_pixels, Place(), build)
    enhance = worker._enhancer.enhance

    def enhance_or_die(picture, *arguments):
        if picture.shape[1] == width:
            os.kill(os.getpid(), signal.SIGKILL)
        return enhance(picture, *arguments)
    worker._enhancer.enhance = enhance_or_die
    return worker


def build_chunk_worker(options, faces, place, *, widths, **more):
    """Build a worker of videos in a process where steps fail."""
    from realesrgan.videos.worker import ChunkWorker
    break_videos(widths)
    return ChunkWorker.build(options, faces, place, **more)


def build_job_worker(models_kept, place, *, pictures, videos):
    """Build a worker of the service in a process where steps fail."""
    from realesrgan.web.job_worker import JobWorker
    break_pictures(pictures)
    break_videos(videos)
    return JobWorker.build(models_kept, place)


class BrokenBuild:
    """Stands in for a class of workers, which other processes build with steps that fail."""

    def __init__(self, build, **widths):
        self.build = partial(build, **widths)
