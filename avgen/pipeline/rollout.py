"""Clips longer than the model was trained on: windows of the trained length, each continuing the one before."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from avgen import clock
from avgen.clip import Clip
from avgen.pipeline.request import Request

Generate = Callable[[Sequence[Request]], list[Clip]]


def roll_out(
    generate: Generate,
    requests: Sequence[Request],
    *,
    window: float,
    history: float,
    time_stride: int,
) -> list[Clip]:
    """Clips of requests of any length, made window by window.

    The first window is made as asked, with the image or prefix that is given. Each later one is asked for with what
    the caption says of its time, and continues the last ``history`` seconds of what has been made. Window ``k`` has
    the seed of its request plus ``k``.

    Args:
        generate: Makes clips of requests.
        requests: What to make; those still unfinished share a batch.
        window: Seconds of a window, snapped to 1 + k * ``time_stride`` frames.
        history: Seconds of each window that are given from the one before, snapped likewise.
        time_stride: Frames per latent step of the video codec.

    Raises:
        ValueError: A window that is no longer than its history, or a request with given media that span the clip.
    """
    clips = generate([_opening(r, _frames(r, window, time_stride)) for r in requests])
    totals = [request.num_frames(time_stride) for request in requests]
    number = 0
    while short := [i for i, clip in enumerate(clips) if clip.num_frames < totals[i]]:
        number += 1
        asked = [
            _following(requests[i], clips[i], number, window, history, time_stride) for i in short
        ]
        for i, request, made in zip(short, asked, generate(asked), strict=True):
            assert request.prefix is not None
            clips[i] = _joined(clips[i], made, request.prefix.num_frames)
    return [_named(*each) for each in zip(clips, requests, totals, strict=True)]


def _frames(request: Request, seconds: float, time_stride: int) -> int:
    return clock.frames_on_grid(clock.count(seconds, request.fps), time_stride)


def _opening(request: Request, frames: int) -> Request:
    """The first window of a request."""
    for name in ("video", "audio", "infill"):
        if getattr(request, name) is not None:
            raise ValueError(
                f"{name} is given for the whole clip, which a rollout cannot continue; give image or prefix"
            )
    length = clock.duration(frames, request.fps)
    if request.prefix is not None and request.prefix.duration >= length:
        raise ValueError(
            f"the prefix of {request.prefix.duration:g} s fills the window of {length:g} s; "
            "cut it, or ask for a longer window"
        )
    if request.duration is None or request.duration <= length:
        return request
    return _cropped(request, 0.0, length)


def _following(
    request: Request, made: Clip, number: int, window: float, history: float, time_stride: int
) -> Request:
    """The window that continues what has been made."""
    frames, given = (_frames(request, seconds, time_stride) for seconds in (window, history))
    if given >= frames:
        raise ValueError(
            f"history {history:g} s leaves nothing to make of a window of {window:g} s; "
            "give a shorter history"
        )
    first = made.num_frames - given
    start = clock.duration(first, request.fps)
    part = _cropped(request, start, clock.duration(first + frames, request.fps))
    prefix = made.slice(start).replace(caption=None)
    return replace(part, image=None, prefix=prefix, seed=request.seed + number)


def _cropped(request: Request, start: float, end: float) -> Request:
    """The part of a request from ``start`` to ``end`` seconds, on a clock that begins at ``start``."""
    assert request.duration is not None
    caption = request.caption(max(request.duration, end)).cropped(start, end)
    return replace(request, events=caption.events, duration=caption.duration)


def _joined(clip: Clip, window: Clip, given: int) -> Clip:
    """A clip with what a window adds after its ``given`` frames."""
    assert clip.frames is not None
    assert clip.waveform is not None
    assert window.frames is not None
    assert window.waveform is not None
    samples = clock.count(clock.duration(given, clip.fps), clip.sample_rate)
    return clip.replace(
        frames=np.concatenate([clip.frames, window.frames[given:]]),
        waveform=np.concatenate([clip.waveform, window.waveform[:, samples:]], axis=1),
    )


def _named(clip: Clip, request: Request, frames: int) -> Clip:
    """A clip cut to its length, with the caption and the request that it answers."""
    assert clip.frames is not None
    assert clip.waveform is not None
    seconds = clock.duration(frames, request.fps)
    return clip.replace(
        frames=clip.frames[:frames],
        waveform=clip.waveform[:, : clock.count(seconds, clip.sample_rate)],
        caption=request.caption(seconds),
        request=clip.request | request.to_dict(),
    )
