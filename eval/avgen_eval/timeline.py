"""The timeline of a clip: requested events over film strip, motion, waveform and spectrogram."""

from collections.abc import Sequence
from html import escape

from avgen.caption import TRACKS, Event, TimedCaption
from avgen.clip import Clip
from avgen.measure.motion import measure_motion
from avgen_eval import charts
from avgen_eval.clips import ClipRecord
from avgen_eval.events import WINDOWS_MS, match_events
from avgen_eval.requested import Requested

WINDOW = WINDOWS_MS[0] / 1000


def draw_timeline(clip: Clip, caption: TimedCaption | None, record: ClipRecord, label: str) -> str:
    """The timeline as HTML: lanes over one axis of seconds, with marks for requests and finds."""
    duration = clip.duration
    step = float(1 / clip.fps)
    lanes = [_track_lanes(caption, duration)] if caption else []
    lanes += _picture_lanes(clip, record) + _sound_lanes(clip, record)
    ticks = "".join(
        f'<span style="left:{_percent(t, duration)}">{t:g} s</span>' for t in _ticks(duration)
    )
    return (
        f'<div class="timeline" role="slider" tabindex="0" '
        f'aria-label="{escape(label, quote=True)}: position in seconds" '
        f'aria-valuemin="0" aria-valuemax="{duration:g}" aria-valuenow="0" '
        f'data-duration="{duration:g}" data-step="{step:g}">{"".join(lanes)}'
        f'<div></div><div class="axis" aria-hidden="true">{ticks}</div>'
        '<div class="playhead" aria-hidden="true"><i></i><output></output></div></div>'
    )


def legend(captions: Sequence[TimedCaption]) -> str:
    """What the colours and marks mean; only tracks that occur."""
    used = {event.track for caption in captions for event in caption.events}
    items = [
        f'<li><i class="swatch" style="--c:var(--{t})"></i>{t}</li>' for t in TRACKS if t in used
    ]
    marks = {
        "hit": ("var(--good)", "found in time"),
        "extra": ("var(--bad)", "found, not asked for"),
        "missed": ("var(--bad)", "asked for, not found"),
    }
    items += [
        f'<li><svg style="color:{colour}" aria-hidden="true"><use href="#{name}"/></svg>{text}</li>'
        for name, (colour, text) in marks.items()
    ]
    items.append(f'<li><i class="swatch span"></i>±{1000 * WINDOW:g} ms of a requested moment</li>')
    return f'<ul class="legend" aria-label="Legend">{"".join(items)}</ul>'


def pack_rows(events: Sequence[Event]) -> list[list[Event]]:
    """Events of one track in as few rows as possible, none overlapping within a row."""
    rows: list[list[Event]] = []
    for event in sorted(events, key=lambda event: (event.start_us, event.end_us)):
        row = next((row for row in rows if row[-1].end_us <= event.start_us), None)
        if row is None:
            rows.append([event])
        else:
            row.append(event)
    return rows


def _track_lanes(caption: TimedCaption, duration: float) -> str:
    lanes = []
    for track in TRACKS:
        for number, row in enumerate(pack_rows([e for e in caption.events if e.track == track])):
            after = [event.start for event in row[1:]] + [duration]
            bars = "".join(_bar(e, nxt, duration) for e, nxt in zip(row, after, strict=True))
            name = track if number == 0 else ""
            lanes.append(_lane(name, "track", bars))
    return "".join(lanes)


def _bar(event: Event, next_start: float, duration: float) -> str:
    slot = max(min(next_start, duration) - event.start, event.end - event.start)
    share = 100 * (event.end - event.start) / slot
    title = escape(
        f"{event.text} ({event.track}, {event.start:.2f} to {event.end:.2f} s)", quote=True
    )
    return (
        f'<button type="button" class="event" title="{title}" aria-label="{title}: go there" '
        f'data-start="{event.start:g}" data-end="{event.end:g}" style="--c:var(--{event.track});'
        f'left:{_percent(event.start, duration)};width:{_percent(slot, duration)}">'
        f'<i style="width:{share:.2f}%"></i><span>{escape(event.text)}</span></button>'
    )


def _picture_lanes(clip: Clip, record: ClipRecord) -> list[str]:
    if clip.frames is None:
        return []
    motion = record.motion or measure_motion(clip.frames, clip.fps)
    count = max(4, min(16, round(10 * clip.frames.shape[1] / clip.frames.shape[2])))
    strip = charts.film_strip(clip.frames, count)
    film = f'<img alt="Frames of the clip, evenly spaced" src="{strip}">'
    area = charts.curve_path(motion.strength, clip.duration, filled=True)
    speed = charts.curve_path(motion.speed, clip.duration, filled=False)
    curve = _svg(
        f'<path class="jolt" d="{area}"/><path class="speed" d="{speed}"/>',
        "Strength of picture events",
    )
    asked = (record.requested or Requested()).picture
    marks = _marks(
        asked, record.picture_times, clip.duration, "visual", record.requested is not None
    )
    return [_lane("frames", "film", film), _lane("motion", "motion", curve + marks)]


def _sound_lanes(clip: Clip, record: ClipRecord) -> list[str]:
    if clip.waveform is None:
        return []
    path = charts.waveform_path(clip.waveform, clip.duration, clip.sample_rate)
    wave = _svg(f'<path class="wave" d="{path}"/>', "Waveform")
    asked = (record.requested or Requested()).sound
    marks = _marks(asked, record.sound_times, clip.duration, "sfx", record.requested is not None)
    heat = (
        f'<img alt="Mel spectrogram" src="{charts.spectrogram(clip.waveform, clip.sample_rate)}">'
    )
    lines = "".join(_asked(time, clip.duration, "sfx") for time in asked)
    return [_lane("waveform", "sound", wave + marks), _lane("spectrum", "heat", heat + lines)]


def _marks(
    requested: Sequence[float], detected: Sequence[float], duration: float, track: str, judged: bool
) -> str:
    """Windows and lines of what was asked for, and one mark per event: found, missed or extra."""
    parts = [
        f'<i class="window" style="left:{_percent(t - WINDOW, duration)};'
        f'width:{_percent(2 * WINDOW, duration)}"></i>'
        for t in requested
    ]
    parts += [_asked(time, duration, track) for time in requested]
    if not judged or not requested:
        return "".join(parts) + "".join(
            _mark("found", t, duration, f"found at {t:.3f} s") for t in detected
        )
    pairs = match_events(requested, detected, WINDOW)
    for i, j in pairs:
        error = 1000 * (detected[j] - requested[i])
        parts.append(
            _mark("hit", detected[j], duration, f"found at {detected[j]:.3f} s, {error:+.0f} ms")
        )
    hit, answered = {j for _, j in pairs}, {i for i, _ in pairs}
    extra = [time for j, time in enumerate(detected) if j not in hit]
    missed = [time for i, time in enumerate(requested) if i not in answered]
    parts += [_mark("extra", t, duration, f"found at {t:.3f} s, not asked for") for t in extra]
    parts += [_mark("missed", t, duration, f"asked for at {t:.3f} s, not found") for t in missed]
    return "".join(parts)


def _asked(time: float, duration: float, track: str) -> str:
    return f'<i class="asked" style="--c:var(--{track});left:{_percent(time, duration)}"></i>'


def _mark(kind: str, time: float, duration: float, title: str) -> str:
    return (
        f'<svg class="mark {kind}" role="img" style="left:{_percent(time, duration)}">'
        f"<title>{title}</title>"
        f'<use href="#{kind}"/></svg>'
    )


def _lane(name: str, kind: str, content: str) -> str:
    return f'<div class="name">{name}</div><div class="plot {kind}">{content}</div>'


def _svg(content: str, label: str) -> str:
    box = f"0 0 {charts.WIDTH} {charts.HEIGHT}"
    content = content.replace("<path ", '<path vector-effect="non-scaling-stroke" ')
    return (
        f'<svg class="curve" role="img" aria-label="{label}" viewBox="{box}" '
        f'preserveAspectRatio="none">{content}</svg>'
    )


def _percent(seconds: float, duration: float) -> str:
    return f"{100 * seconds / duration:.3f}%"


def _ticks(duration: float) -> list[float]:
    step = next((s for s in (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60) if duration / s <= 10), 120)
    return [
        round(i * step, 3) for i in range(int(duration / step) + 1) if i * step <= 0.97 * duration
    ]
