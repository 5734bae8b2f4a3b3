"""How a live stream of chunks arrives: first picture and sound, stalls, gaps and missed deadlines.

Nothing here measures a clock: wall-clock seconds since the request, at which a chunk could be played,
come with the media seconds it holds.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from avgen_eval.metrics.base import ClipMetric, Field, Values

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Arrivals:
    """Chunks of one stream in the order in which they play.

    Attributes:
        times: Wall-clock seconds since the request at which each could be played.
        durations: Media seconds that each holds.

    Raises:
        ValueError: No chunk, different lengths, times that are negative or decrease, or durations
            that are not positive.
    """

    times: np.ndarray
    durations: np.ndarray

    def __post_init__(self) -> None:
        times, durations = np.asarray(self.times, float), np.asarray(self.durations, float)
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "durations", durations)
        if times.ndim != 1 or times.shape != durations.shape or not times.size:
            raise ValueError(
                f"times {times.shape} and durations {durations.shape} must be of one length, with at "
                "least one chunk"
            )
        if not (np.isfinite(times).all() and times[0] >= 0 and (np.diff(times) >= 0).all()):
            raise ValueError(
                "times must be seconds since the request that do not decrease; a chunk is there when "
                "all before it are"
            )
        if not (np.isfinite(durations).all() and (durations > 0).all()):
            raise ValueError(f"durations must be positive; the least is {durations.min()} s")

    @property
    def starts(self) -> np.ndarray:
        """Media seconds at which each chunk begins."""
        return np.concatenate([[0.0], np.cumsum(self.durations)[:-1]])

    @property
    def duration(self) -> float:
        """Media seconds of all chunks."""
        return float(self.durations.sum())


@dataclass(frozen=True, kw_only=True)
class Playback:
    """A stream as someone saw it who pressed play.

    Attributes:
        start_s: Wall-clock seconds from the request until it plays.
        stalls: How often it stopped to wait for a chunk.
        stall_s: Seconds of waiting in all, without the start.
        miss_share: Share of chunks that came after their time, had it never waited.
    """

    start_s: float
    stalls: int
    stall_s: float
    miss_share: float


def play(streams: list[Arrivals], buffer: float) -> Playback:
    """Play streams together, from the moment each holds ``buffer`` seconds of media.

    A clip (or stream) shorter than the buffer starts when it is complete. When a chunk is due that is
    not there, both streams wait until it is. Its deadline for ``miss_share`` is ``start_s`` plus the
    media seconds before it: a player that drops what is late instead of waiting.

    Args:
        streams: One or more.
        buffer: Media seconds to collect before the start; 0 starts with the first chunks.

    Raises:
        ValueError: No streams, or a buffer below 0.
    """
    if not streams or not 0 <= buffer < np.inf:
        raise ValueError(
            f"playing needs at least one stream and a buffer of 0 s or more, not {buffer}"
        )
    start = max(_filled(stream, buffer) for stream in streams)
    due = np.concatenate([stream.starts for stream in streams])
    times = np.concatenate([stream.times for stream in streams])
    order = np.argsort(due, kind="stable")
    stalls, waited, stalled_at = 0, 0.0, -np.inf
    for media, time in zip(due[order], times[order], strict=True):
        late = time - (start + media + waited)
        if late > TOLERANCE:
            # Two streams that wait for chunks of one instant make one stall.
            stalls += media - stalled_at > TOLERANCE
            waited, stalled_at = waited + late, media
    return Playback(
        start_s=start,
        stalls=int(stalls),
        stall_s=float(waited),
        miss_share=float((times > start + due + TOLERANCE).mean()),
    )


def gap_percentiles(times: np.ndarray) -> tuple[float, float, float] | None:
    """50th, 95th and 99th percentile of the time between chunks, in ms (linear interpolation).

    Returns:
        None for a single chunk.
    """
    if len(times) < 2:
        return None
    p50, p95, p99 = 1000 * np.percentile(np.diff(times), [50, 95, 99])
    return float(p50), float(p95), float(p99)


def real_time_factor(streams: list[Arrivals]) -> float:
    """Wall-clock seconds from the request to the last chunk, per media second that can be played.

    What can be played is as long as the shortest stream. Below 1 is faster than real time.

    Fails on: short clips, in which the time to the first chunk decides; see `steady_factor`.
    """
    return max(float(s.times[-1]) for s in streams) / min(s.duration for s in streams)


def steady_factor(streams: list[Arrivals]) -> float | None:
    """Wall-clock seconds per media second after the first chunk, of the slowest stream.

    Below 1 it can play for ever. None where a stream has a single chunk.
    """
    if any(len(s.times) < 2 for s in streams):
        return None
    return max(float((s.times[-1] - s.times[0]) / s.durations[1:].sum()) for s in streams)


class LiveMetric(ClipMetric):
    """Latency and continuity of a live stream.

    ``update(picture, sound)`` takes the arrivals of chunks; either may be None, but not both.
    Percentiles are those of each run, averaged over runs.

    Args:
        buffer: Media seconds that a player collects before it starts.
        kwargs: As for `torchmetrics.Metric`.
    """

    fields: ClassVar = {
        "first_frame_s": Field(unit="s", better="lower"),
        "first_sound_s": Field(unit="s", better="lower"),
        "first_both_s": Field(unit="s", better="lower"),
        "start_s": Field(unit="s", better="lower"),
        "stalls": Field(unit="count", better="lower"),
        "stall_s": Field(unit="s", better="lower"),
        "miss_share": Field(unit="share", better="lower"),
        "real_time_factor": Field(better="lower"),
        "steady_factor": Field(better="lower"),
        **{
            f"{stream}_gap_p{share}_ms": Field(unit="ms", better="lower")
            for stream in ("picture", "sound")
            for share in (50, 95, 99)
        },
    }

    def __init__(self, buffer: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.buffer = buffer

    def measure(self, picture: Arrivals | None, sound: Arrivals | None) -> Values:
        """All values of one run; ValueError without any chunk."""
        named = {"picture": picture, "sound": sound}
        streams = [stream for stream in named.values() if stream is not None]
        playback = play(streams, self.buffer)
        first = {name: float(s.times[0]) for name, s in named.items() if s is not None}
        values: dict[str, float | None] = {
            "first_frame_s": first.get("picture"),
            "first_sound_s": first.get("sound"),
            "first_both_s": max(first.values()) if len(first) == 2 else None,
            **vars(playback),
            "real_time_factor": real_time_factor(streams),
            "steady_factor": steady_factor(streams),
        }
        for name, stream in named.items():
            gaps = gap_percentiles(stream.times) if stream else None
            for index, share in enumerate((50, 95, 99)):
                values[f"{name}_gap_p{share}_ms"] = gaps[index] if gaps else None
        return values


def _filled(stream: Arrivals, buffer: float) -> float:
    """Wall-clock seconds at which the stream holds so much media, or all that it has."""
    ends = stream.starts + stream.durations
    enough = np.flatnonzero(ends >= buffer - TOLERANCE)
    return float(stream.times[enough[0]] if enough.size else stream.times[-1])
