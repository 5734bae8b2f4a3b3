"""The second reader: pictures by decord, for trusted files of constant frame rate.

decord counts frames and knows neither start times nor varying rates. So the times come from the
packets (read with PyAV, nothing decoded), and files whose pictures are not evenly spaced are
refused. Its sound is up to a millisecond off, so PyAV reads it here too. decord can crash on
damaged files.
"""

import bisect
import importlib
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from numpy import ndarray

from avgen.clip import Clip
from avgen.clock import count
from avgen.media.container import OpenMedia, opened, packet_times
from avgen.media.decoding import assemble, decode_sound, tolerance
from avgen.media.limits import MediaError, guarded
from avgen.media.picture import to_rgb
from avgen.media.request import ReadRequest, embedded_size

_PYAV = "use reader='pyav'"


def read_with_decord(request: ReadRequest) -> Clip:
    """See `avgen.media.read`.

    Raises:
        MediaError: Also where the file has no picture or its frame rate varies.
    """
    with opened(request.path, request.limits) as media, guarded(request.path, "decode it"):
        request.check_media(media)
        if media.video is None:
            raise MediaError(request.path, "has no picture, which decord needs", _PYAV)
        fps = request.rate_of(media)
        times, last = _picture_times(media)
        if media.audio is not None:
            sound_end = media.end(media.audio) or last
            last = last if sound_end < last + 1 / fps else sound_end
        request.check_end(last, fps)
        length = request.num_frames(fps) or count(last - request.start, fps)
        duration = length / fps
        request.check_duration(duration)
        slack = tolerance(media.video)
        starts = (request.start + i / fps + slack for i in range(length))
        indices = [max(0, bisect.bisect_right(times, at) - 1) for at in starts]
        frames = _decode(request, media, indices, len(times))
    with opened(request.path, request.limits) as media, guarded(request.path, "decode its sound"):
        sound = decode_sound(media, request, duration)
        return assemble(media, request, frames, fps, sound, duration)


def _picture_times(media: OpenMedia) -> tuple[list[Fraction], Fraction]:
    """Seconds of every picture in display order, and where the last one ends."""
    assert media.video is not None
    times = packet_times(media)
    steps = max(1, len(times) - 1)
    rate = media.video.average_rate
    step = (times[-1] - times[0]) / steps if len(times) > 1 else 1 / (rate or Fraction(25))
    slack = 2 * tolerance(media.video)
    if any(abs(time - times[0] - i * step) > slack for i, time in enumerate(times)):
        raise MediaError(media.path, "has a varying frame rate, which decord cannot read", _PYAV)
    return times, times[-1] + step


def _decode(
    request: ReadRequest, media: OpenMedia, indices: list[int], num_pictures: int
) -> UInt8[ndarray, "f h w 3"]:
    assert media.video is not None
    context, crop = media.video.codec_context, embedded_size(media)
    height, width = request.size or crop or (context.height, context.width)
    distinct = sorted(set(indices))
    request.check_memory(len(indices), 3 * height * width)
    request.check_memory(len(distinct), 3 * context.height * context.width)
    decord = importlib.import_module("decord")
    source = decord.VideoReader(str(request.path.absolute()), num_threads=1)
    if len(source) != num_pictures:
        problem = f"has {num_pictures} pictures, of which decord finds {len(source)}"
        raise MediaError(request.path, problem, _PYAV)
    pictures = source.get_batch(distinct).asnumpy()
    reformatter = VideoReformatter()
    upright = [
        to_rgb(VideoFrame.from_ndarray(picture, format="rgb24"), request.size, crop, reformatter)
        for picture in pictures
    ]
    place = {index: i for i, index in enumerate(distinct)}
    return np.stack([upright[place[index]] for index in indices])
