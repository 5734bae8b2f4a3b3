"""Did it happen when the timed caption asked for it: per stream and per track.

What a caption asks for at a moment is decided by `avgen_eval.requested`. Errors are ``detected - requested`` in
milliseconds, positive where the event came late.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from avgen.caption import TimedCaption
from avgen_eval.events import match_events, score_events, timing_error
from avgen_eval.metrics.base import ClipMetric, Field, Values
from avgen_eval.requested import PICTURE_TRACKS, SOUND_TRACKS, requested_moments

WINDOWS_MS = (50, 100, 250, 500)
ERROR_WINDOW_MS = WINDOWS_MS[-1]
STREAMS: Mapping[str, tuple[str, ...]] = {"sound": SOUND_TRACKS, "picture": PICTURE_TRACKS}
GROUPS = (*STREAMS, *SOUND_TRACKS, *PICTURE_TRACKS)
"""What has moments: the two streams and their tracks."""
LASTING: Mapping[str, tuple[str, ...]] = {
    **STREAMS,
    **{track: (track,) for track in (*SOUND_TRACKS, *PICTURE_TRACKS, "ambience", "camera")},
}
"""What has intervals, and on which tracks."""

Interval = tuple[float, float]
"""Start and end in seconds."""
Pairs = Sequence[tuple[float, float]]
"""Requested and detected time of each matched event."""

_SHARE, _ERROR = Field(unit="share", better="higher"), Field(unit="ms", better="lower")
_KINDS: Mapping[str, Field] = {
    **{f"{name}_{w}ms": _SHARE for name in ("precision", "recall", "f1") for w in WINDOWS_MS},
    **{f"error_{name}_ms": _ERROR for name in ("mean", "median", "p90")},
    "bias_ms": Field(unit="ms", better="target"),
    "count_error": Field(unit="events", better="target"),
    "count_error_abs": Field(unit="events", better="lower"),
}


def timing_values(requested: Sequence[float], detected: Sequence[float]) -> Values:
    """How one list of detected times answers one list of requested times.

    Args:
        requested: Seconds.
        detected: Seconds.

    Returns:
        ``precision_``, ``recall_`` and ``f1_`` followed by ``50ms``, ``100ms``, ``250ms`` and ``500ms``;
        ``error_mean_ms``, ``error_median_ms``, ``error_p90_ms`` (sizes) and ``bias_ms`` (signed) of the pairs matched
        within 500 ms, so that no error exceeds that: read them beside ``recall_500ms``; ``count_error``, detected minus
        requested, and its size ``count_error_abs``. All are None where nothing is requested at a moment.
    """
    if not len(requested):
        return dict.fromkeys(_KINDS)
    values: dict[str, float | None] = {}
    for window in WINDOWS_MS:
        score = score_events(requested, detected, window)
        values[f"precision_{window}ms"] = score.precision
        values[f"recall_{window}ms"] = score.recall
        values[f"f1_{window}ms"] = score.f1
    surplus = len(detected) - len(requested)
    errors = score_events(requested, detected, ERROR_WINDOW_MS).errors_ms
    return {
        **values,
        **_error_values(errors),
        "count_error": float(surplus),
        "count_error_abs": float(abs(surplus)),
    }


def shared_values(
    stream: Sequence[float], track: Sequence[float], detected: Sequence[float]
) -> Values:
    """How one track is answered by events of its stream that nobody has told apart.

    The stream's requested times are matched to the events, and the track is given the pairs that are its own, so that
    no event answers for two tracks (unless both ask for it at one instant). What an unmatched event was meant to be is
    not known, hence no precision, F1 or count.

    Args:
        stream: Requested times of all tracks of the stream, at least 20 ms apart, see `requested_moments`.
        track: Requested times of one of these tracks.
        detected: Times found in the stream.

    Returns:
        The names of `timing_values`.
    """
    values: dict[str, float | None] = dict.fromkeys(_KINDS)
    if not len(track):
        return values
    errors: list[float] = []
    # The moment that stands for another in the stream is the last one not after it.
    stands = np.searchsorted(np.asarray(stream), np.asarray(track), side="right") - 1
    for window in WINDOWS_MS:
        pairs = dict(match_events(stream, detected, window / 1000))
        found = [
            (asked, pairs[i]) for asked, i in zip(track, stands.tolist(), strict=True) if i in pairs
        ]
        errors = [1000 * (detected[j] - asked) for asked, j in found]
        values[f"recall_{window}ms"] = len(found) / len(track)
    return {**values, **_error_values(errors)}


def requested_on(caption: TimedCaption, track: str) -> tuple[float, ...]:
    """Moments that one track of a caption asks for, seconds, by the rules of `requested_moments`."""
    causes = SOUND_TRACKS if track in PICTURE_TRACKS else ()
    events = [event for event in caption.events if event.track == track or event.track in causes]
    ids = {event.id for event in events}
    linked = (e if e.cause in ids else e.replace(cause=None) for e in events)
    moments = requested_moments(caption.replace(events=tuple(linked)))
    return moments.picture if track in PICTURE_TRACKS else moments.sound


def requested_intervals(caption: TimedCaption, tracks: Iterable[str]) -> list[Interval]:
    """Start and end of the events on some tracks; those that span the whole clip ask for no time and are left out."""
    tracks = set(tracks)
    return [
        (event.start, event.end)
        for event in caption.events
        if event.track in tracks and event.end_us - event.start_us < caption.duration_us
    ]


def interval_iou(requested: Sequence[Interval], detected: Sequence[Interval]) -> float | None:
    """Seconds that are in both over seconds that are in either; overlapping intervals of one list count once.

    Returns:
        None where neither list covers any time.

    Raises:
        ValueError: An interval ends before it starts, or is not finite.
    """
    either = _covered([*requested, *detected])
    both = _covered(requested) + _covered(detected) - either
    return both / either if either > 0 else None


def order_tau(requested: Sequence[float], detected: Sequence[float]) -> float | None:
    """Kendall's tau of matched events: 1 where all pairs happened in the order asked for, -1 where none did.

    ``(concordant - discordant) / pairs``, over the pairs that were asked for at different times; events asked for at
    one instant have no order (this makes it Somers' D, which equals tau where there are no ties).

    Args:
        requested: Seconds.
        detected: Seconds of the same events.

    Returns:
        None where all were asked for at one instant, or there are fewer than two.

    Raises:
        ValueError: The lists differ in length.
    """
    if len(requested) != len(detected):
        raise ValueError(
            f"{len(requested)} requested and {len(detected)} detected times; give the two times of each matched event"
        )
    asked, found = (
        np.sign(np.subtract.outer(t, t)) for t in map(np.asarray, (requested, detected))
    )
    pairs = np.count_nonzero(asked)
    return float((asked * found).sum() / pairs) if pairs else None


class TimingMetric(ClipMetric):
    """Mean over clips of how events answer a timed caption.

    For ``sound`` and ``picture`` and for each track (``sfx``, ``speech``, ``music``, ``visual``, ``action``) the values
    of `timing_values`, as in ``sound_recall_100ms``; tracks whose events nobody tells apart have those of
    `shared_values`. ``<stream or track>_iou`` where intervals are given, for ``ambience`` and ``camera`` too.

    ``order`` is `order_tau` over lists of events that are told apart: the two streams, or where times per track are
    given, the tracks. ``sound_order`` and ``picture_order`` are that within a stream. None with one list only: events
    without names are matched in the order in which they come, so they cannot be seen to change places.

    Fails on: a wide window, which pairs an event that is missing with another that is surplus; wrong detections, which
    look like wrong generation.
    """

    fields: ClassVar = {
        **{f"{group}_{name}": kind for group in GROUPS for name, kind in _KINDS.items()},
        **{f"{group}_iou": Field(unit="share", better="higher") for group in LASTING},
        **{name: Field(better="higher") for name in ("order", "sound_order", "picture_order")},
    }

    def measure(
        self,
        caption: TimedCaption,
        *,
        sound_times: Sequence[float] | None = None,
        picture_times: Sequence[float] | None = None,
        track_times: Mapping[str, Sequence[float]] | None = None,
        intervals: Mapping[str, Sequence[Interval]] | None = None,
    ) -> Values:
        """Values of one clip.

        Args:
            caption: What was asked for.
            sound_times: All onsets, seconds; empty for a silent clip, None where nobody looked.
            picture_times: All impacts, likewise.
            track_times: Events of single tracks, from detectors that tell them apart.
            intervals: Times during which something was found, by stream or track.

        Raises:
            ValueError: ``track_times`` or ``intervals`` has a name that is no track (or stream), or a time is wrong.
        """
        track_times, intervals = track_times or {}, intervals or {}
        _check_names("track_times", track_times, (*SOUND_TRACKS, *PICTURE_TRACKS))
        _check_names("intervals", intervals, LASTING)
        values: dict[str, float | None] = dict.fromkeys(self.fields)
        moments = requested_moments(caption)
        told: list[Pairs] = []
        for stream, asked, found in (
            ("sound", moments.sound, sound_times),
            ("picture", moments.picture, picture_times),
        ):
            by_track = {track: requested_on(caption, track) for track in STREAMS[stream]}
            values |= _stream_values(stream, asked, by_track, found, track_times)
            lists = _told_apart(asked, by_track, found, track_times)
            values[f"{stream}_order"] = _order(lists)
            told += lists
        values["order"] = _order(told)
        for group, found in intervals.items():
            wanted = requested_intervals(caption, LASTING[group])
            values[f"{group}_iou"] = interval_iou(wanted, found) if wanted else None
        return values


def _stream_values(
    stream: str,
    asked: Sequence[float],
    by_track: Mapping[str, Sequence[float]],
    found: Sequence[float] | None,
    track_times: Mapping[str, Sequence[float]],
) -> dict[str, float | None]:
    """Values of a stream and of its tracks."""
    values = {} if found is None else _named(stream, timing_values(asked, found))
    for track, wanted in by_track.items():
        if track in track_times:
            values |= _named(track, timing_values(wanted, track_times[track]))
        elif found is not None:
            values |= _named(track, shared_values(asked, wanted, found))
    return values


def _told_apart(
    asked: Sequence[float],
    by_track: Mapping[str, Sequence[float]],
    found: Sequence[float] | None,
    track_times: Mapping[str, Sequence[float]],
) -> list[Pairs]:
    """Matched times of each list of a stream that is told from the others; empty ones are left out."""
    known = by_track.keys() & track_times.keys()
    lists = [_matched(by_track[track], track_times[track]) for track in sorted(known)]
    if not known and found is not None:
        lists = [_matched(asked, found)]
    return [pairs for pairs in lists if pairs]


def _matched(requested: Sequence[float], detected: Sequence[float]) -> Pairs:
    pairs = match_events(requested, detected, ERROR_WINDOW_MS / 1000)
    return [(requested[i], detected[j]) for i, j in pairs]


def _order(lists: Sequence[Pairs]) -> float | None:
    """`order_tau` over several lists; None for fewer than two."""
    if len(lists) < 2:
        return None
    requested, detected = zip(*(pair for pairs in lists for pair in pairs), strict=True)
    return order_tau(requested, detected)


def _error_values(errors_ms: Sequence[float]) -> Values:
    error = timing_error(errors_ms)
    return {
        "error_mean_ms": error and error.mean_ms,
        "error_median_ms": error and error.median_ms,
        "error_p90_ms": error and error.p90_ms,
        "bias_ms": error and error.bias_ms,
    }


def _covered(intervals: Sequence[Interval]) -> float:
    """Seconds in at least one interval."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(intervals):
        if not (np.isfinite(start) and np.isfinite(end) and start <= end):
            raise ValueError(
                f"interval ({start}, {end}) must be finite seconds that end no earlier than they start"
            )
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _named(prefix: str, values: Values) -> dict[str, float | None]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


def _check_names(argument: str, given: Iterable[str], known: Iterable[str]) -> None:
    wrong = sorted(set(given) - set(known))
    if wrong:
        raise ValueError(f"{argument} has {', '.join(wrong)}; choose from {', '.join(known)}")
