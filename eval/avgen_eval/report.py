"""A report as one self-contained HTML file: players, timelines and figures."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen_eval.charts import poster
from avgen_eval.clips import ClipRecord
from avgen_eval.events import EventScore, match_events, timing_error
from avgen_eval.summary import Figure
from avgen_eval.timeline import WINDOW, draw_timeline, legend

NOT_AVAILABLE = '<span class="na">n/a</span>'
MINUS = "\N{MINUS SIGN}"
SMALL = 200
TILES = {
    "sound_f1_60": "Sound events, F1 at 60 ms",
    "picture_f1_60": "Picture events, F1 at 60 ms",
    "sound_timing_median_ms": "Sound timing error, median",
    "picture_timing_median_ms": "Picture timing error, median",
    "offset_median_ms": "A/V offset, median",
    "objects_visible": "Frames with the objects described",
}


@dataclass(frozen=True, kw_only=True)
class ReportItem:
    """One clip of a report.

    Attributes:
        record: What was measured; its notes and findings are shown.
        clip: What is drawn and, without ``path``, encoded; None for a clip that failed.
        path: The MP4 file to embed as it is.
        title: Heading; the record's name if None.
        caption: What was asked for; the clip's own caption if None.
        below: HTML that stands under the timeline.
    """

    record: ClipRecord
    clip: Clip | None = None
    path: Path | None = None
    title: str | None = None
    caption: TimedCaption | None = None
    below: str = ""

    @property
    def heading(self) -> str:
        """Title, or the record's name."""
        return self.title or self.record.name

    @property
    def asked(self) -> TimedCaption | None:
        """The caption that the clip is held to."""
        return self.caption or (self.clip.caption if self.clip else None)


def write_report(
    path: str | Path,
    title: str,
    items: Sequence[ReportItem],
    *,
    summary: Mapping[str, Figure] | None = None,
    about: Mapping[str, str] | None = None,
    lead: str = "",
) -> Path:
    """Write a report.

    Args:
        path: The HTML file to write.
        title: Title of the page.
        items: The clips, in order.
        summary: From `avgen_eval.summary.summarise`; shown as tiles.
        about: Short facts under the title, such as revision, date and hardware.
        lead: One paragraph under the title.

    Returns:
        The path.

    Raises:
        MediaError: A clip cannot be encoded.
        OSError: A file cannot be read or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        build_report(title, items, summary=summary, about=about, lead=lead), encoding="utf-8"
    )
    return path


def build_report(
    title: str,
    items: Sequence[ReportItem],
    *,
    summary: Mapping[str, Figure] | None = None,
    about: Mapping[str, str] | None = None,
    lead: str = "",
    overview: str | None = None,
) -> str:
    """The HTML text of a report; see `write_report`.

    ``overview`` is HTML that stands before the clips, in place of the tiles and the table of the clips.
    """
    captions = [item.asked for item in items if item.asked is not None]
    facts = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>"
        for key, value in (about or {}).items()
    )
    return Template(_asset("report.html")).substitute(
        title=escape(title),
        style=_asset("report.css"),
        lead=f'<p class="lead">{escape(lead)}</p>' if lead else "",
        about=f'<dl class="about">{facts}</dl>' if facts else "",
        overview=_overview(summary or {}, items) if overview is None else overview,
        legend=legend(captions),
        clips="".join(_clip(item, number) for number, item in enumerate(items, start=1)),
        script=_asset("report.js"),
    )


def _overview(summary: Mapping[str, Figure], items: Sequence[ReportItem]) -> str:
    return f"{_tiles(summary)}<h2>Figures per clip</h2>{_table(items)}"


def _asset(name: str) -> str:
    return files("avgen_eval").joinpath(name).read_text(encoding="utf-8")


def _tiles(summary: Mapping[str, Figure]) -> str:
    attributes = {
        name: f"{name.removeprefix('attribute_').replace('_', ' ').capitalize()} right"
        for name in summary
        if name.startswith("attribute_")
    }
    shown = {name: label for name, label in (TILES | attributes).items() if name in summary}
    tiles = "".join(_tile(label, summary[name]) for name, label in shown.items())
    return f'<dl class="tiles">{tiles}</dl>' if tiles else ""


def _tile(label: str, figure: Figure) -> str:
    if figure.unit == "ms":
        ends = "{:+.0f}" if "offset" in label else "{:.0f}"
        value, bar = f"{ends.format(figure.value)}<small>ms</small>", ""
    else:
        ends = "{:.2f}" if "F1" in label else "{:.0%}"
        value = ends.format(figure.value)
        low, high = (figure.value if end is None else end for end in (figure.low, figure.high))
        bar = (
            f'<div class="whisker" aria-hidden="true">'
            f'<i style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%">'
            f'</i><b style="left:{100 * figure.value:.1f}%"></b></div>'
        )
    several = "clip" if figure.num_clips == 1 else "clips"
    interval = (
        f"{ends.format(figure.low)} to {ends.format(figure.high)}, "
        if figure.low is not None and figure.high is not None
        else ""
    )
    value, interval = value.replace("-", MINUS), interval.replace("-", MINUS)
    return (
        f'<div class="tile"><dt>{escape(label)}</dt><dd><div class="value">{value}</div>{bar}'
        f'<div class="range">{interval}{figure.num_clips} {several}</div></dd></div>'
    )


def _table(items: Sequence[ReportItem]) -> str:
    heads = (
        "Clip",
        "Sound F1",
        "Picture F1",
        "Sound error",
        "Picture error",
        "A/V offset",
        "Objects",
        "Remarks",
    )
    cells = "".join(
        f'<th scope="col"{" class=words" if head == "Remarks" else ""}>{head}</th>'
        for head in heads
    )
    rows = []
    for number, item in enumerate(items, start=1):
        record = item.record
        visible = (
            NOT_AVAILABLE
            if record.objects_visible is None
            else f"{100 * record.objects_visible:.0f}%"
        )
        figures = (
            _f1(record.sound_scores),
            _f1(record.picture_scores),
            _error(record.sound_scores),
            _error(record.picture_scores),
            _offset(record),
            visible,
        )
        remarks = escape("; ".join((*record.findings, *record.notes)))
        rows.append(
            f'<tr><th scope="row"><a href="#clip-{number}">{escape(item.heading)}</a></th>'
            + "".join(f"<td>{figure}</td>" for figure in figures)
            + f'<td class="words">{remarks}</td></tr>'
        )
    return scrolled(cells, rows)


def _clip(item: ReportItem, number: int) -> str:
    record, caption = item.record, item.asked
    chips = "".join(f"<li>{escape(note)}</li>" for note in record.notes)
    chips += "".join(f'<li class="warn">{escape(finding)}</li>' for finding in record.findings)
    prompt = f'<p class="prompt">{escape(caption.text)}</p>' if caption and caption.text else ""
    timeline = draw_timeline(item.clip, caption, record, item.heading) if item.clip else ""
    return (
        f'<article class="clip" id="clip-{number}" aria-labelledby="title-{number}">'
        f'<header><h3 id="title-{number}">{escape(item.heading)}</h3>'
        f'{f"""<ul class="chips">{chips}</ul>""" if chips else ""}</header>{prompt}'
        f'<div class="body"><div class="screen">{_player(item)}{_facts(record)}</div>'
        f"<div>{timeline}{_events(item)}{item.below}</div></div></article>"
    )


def _player(item: ReportItem) -> str:
    clip = item.clip
    if clip is None:
        return '<div class="empty">This clip could not be shown.</div>'
    data = item.path.read_bytes() if item.path else clip.to_mp4()
    media = f"data:video/mp4;base64,{base64.b64encode(data).decode('ascii')}"
    still = size = ""
    if clip.frames is not None:
        height, width = clip.frames.shape[1:3]
        still = f' poster="{poster(clip.frames)}"'
        size = f' style="aspect-ratio:{width}/{height}"' + (
            ' class="small"' if max(height, width) < SMALL else ""
        )
    track = ""
    if item.asked is not None and item.asked.events:
        cues = base64.b64encode(item.asked.to_vtt().encode()).decode("ascii")
        language = escape(item.asked.language, quote=True)
        track = f'<track kind="captions" srclang="{language}" label="Events" '
        track += f'src="data:text/vtt;base64,{cues}">'
    return (
        f'<video controls loop playsinline preload="auto" '
        f'aria-label="{escape(item.heading, quote=True)}"'
        f'{size}{still} src="{media}">{track}</video>'
    )


def _facts(record: ClipRecord) -> str:
    if record.failed:
        return ""
    rows = [
        ("Sound F1 at 60 ms", _f1(record.sound_scores, counts=True)),
        ("Picture F1 at 60 ms", _f1(record.picture_scores, counts=True)),
        ("Sound error", _error(record.sound_scores)),
        ("Picture error", _error(record.picture_scores)),
        ("A/V offset", _offset(record, confidence=True)),
    ]
    if record.objects_visible is not None:
        rows.append(("Objects as described", f"{100 * record.objects_visible:.0f}%"))
    rows += [
        (f"{name.capitalize()} right", f"{100 * share:.0f}%")
        for name, share in record.attributes.items()
    ]
    body = "".join(f"<dt>{escape(label)}</dt><dd>{value}</dd>" for label, value in rows)
    return f'<dl class="facts">{body}</dl>'


def _events(item: ReportItem) -> str:
    """Table of requested moments and what was found near them."""
    record, asked = item.record, item.record.requested
    if asked is None or not (asked.sound or asked.picture):
        return ""
    rows = []
    for stream, wanted, found in (
        ("sound", asked.sound, record.sound_times),
        ("picture", asked.picture, record.picture_times),
    ):
        pairs = dict(match_events(wanted, found, WINDOW))
        rows += [
            f"<tr><td>{stream}</td><td>{time:.3f} s</td>"
            + (
                f"<td>{found[pairs[i]]:.3f} s</td>"
                f"<td>{_signed(1000 * (found[pairs[i]] - time))} ms</td></tr>"
                if i in pairs
                else "<td>not found</td><td></td></tr>"
            )
            for i, time in enumerate(wanted)
        ]
        extra = [time for j, time in enumerate(found) if wanted and j not in pairs.values()]
        rows += [
            f"<tr><td>{stream}</td><td>not asked for</td><td>{time:.3f} s</td><td></td></tr>"
            for time in extra
        ]
    heads = "".join(
        f'<th scope="col">{head}</th>' for head in ("Stream", "Requested", "Found", "Error")
    )
    return (
        "<details><summary>Every event, requested and found</summary>"
        f"{scrolled(heads, rows)}</details>"
    )


def scrolled(heads: str, rows: Sequence[str], *, stacked: bool = False) -> str:
    """A table that scrolls by itself on a narrow page, from header cells and rows.

    With ``stacked``, a phone shows each row as a block of cells under its name; each cell must have its head in
    ``data-head``.
    """
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="scroll{" stacked" if stacked else ""}">{table}</div>'


def _signed(value: float) -> str:
    return f"{value:+.0f}".replace("-", MINUS)


def _f1(scores: Sequence[EventScore], *, counts: bool = False) -> str:
    if not scores or scores[0].f1 is None:
        return NOT_AVAILABLE
    score = scores[0]
    more = f" <small>{score.num_matched} of {score.num_requested}</small>" if counts else ""
    return f"{score.f1:.2f}{more}"


def _error(scores: Sequence[EventScore]) -> str:
    errors = timing_error(scores[-1].errors_ms) if scores else None
    return f"{errors.median_ms:.0f} ms" if errors else NOT_AVAILABLE


def _offset(record: ClipRecord, *, confidence: bool = False) -> str:
    if record.offset.offset_ms is None:
        return NOT_AVAILABLE
    more = f" <small>conf. {record.offset.confidence:.2f}</small>" if confidence else ""
    return f"{_signed(record.offset.offset_ms)} ms{more}"
