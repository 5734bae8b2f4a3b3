import base64
import re
import struct
import zlib
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from avgen_eval.charts import png_address, waveform_path
from avgen_eval.clips import failed_clip, measure_clip
from avgen_eval.report import ReportItem, build_report, write_report
from avgen_eval.summary import summarise
from avgen_eval.timeline import pack_rows
from eval_media import caption, flash_and_beep

from avgen.caption import Event
from avgen.clip import Clip

VOID = {"meta", "img", "track", "use", "path", "circle", "br"}


class Outline(HTMLParser):
    """Tags must close in order; ids must be unique; addresses are collected."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "poster")
        ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def item(name: str, late: float = 0.0, **changes: object) -> ReportItem:
    clip = flash_and_beep(late=late).replace(**changes)
    record = measure_clip(clip, name=name, notes=("continued from a given clip",))
    return ReportItem(record=record, clip=clip)


@pytest.fixture(scope="module")
def page() -> str:
    broken = ReportItem(record=failed_clip("c.mp4", "cannot be decoded: cut off"))
    items = [item("a <1>"), item("b", late=0.09), broken]
    summary = summarise([i.record for i in items])
    return build_report("Title & more", items, summary=summary, about={"revision": "abc"})


def test_every_clip_is_there_and_tags_close(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert {"clip-1", "clip-2", "clip-3"} <= set(outline.ids)
    assert outline.tags.count("video") == 2
    assert outline.tags.count("article") == 3
    assert "a &lt;1&gt;" in page
    assert "<1>" not in page
    assert "Title &amp; more" in page
    assert "cannot be decoded: cut off" in page
    assert "continued from a given clip" in page


def test_nothing_is_fetched_from_anywhere(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    for address in outline.addresses:
        assert address.startswith(("data:", "#"))
    text = re.sub(r'"data:[^"]*"', "", page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert "default-src 'none'" in page


def test_videos_are_whole_and_captions_travel_along(page: str) -> None:
    media = re.findall(r'src="data:video/mp4;base64,([^"]+)"', page)
    assert all(base64.b64decode(text)[4:8] == b"ftyp" for text in media)
    cues = base64.b64decode(re.findall(r"data:text/vtt;base64,([^\"]+)", page)[0]).decode()
    assert cues.startswith("WEBVTT")


def test_marks_say_what_was_found(page: str) -> None:
    first, second = page.split('id="clip-2"')
    assert first.count('class="mark hit"') == 6
    assert 'class="mark missed"' not in first
    late = second.split('id="clip-3"')[0]
    assert late.count('class="mark hit"') == 3
    assert late.count('class="mark missed"') == late.count('class="mark extra"') == 3


def test_events_stand_at_their_times(page: str) -> None:
    assert page.count('class="event"') == 12
    assert 'data-start="0.22"' in page
    assert f"left:{100 * 0.22 / 1.96:.3f}%" in page


def test_report_is_written_with_the_file_as_it_is(tmp_path: Path) -> None:
    made = item("a")
    assert made.clip is not None
    path = made.clip.save(tmp_path / "a.mp4")
    given = ReportItem(record=made.record, clip=made.clip, path=path, title="Named")
    target = write_report(tmp_path / "deep" / "report.html", "T", [given])
    text = target.read_text(encoding="utf-8")
    assert base64.b64encode(path.read_bytes()).decode() in text
    assert ">Named</a>" in text


@pytest.mark.parametrize("missing", ["frames", "waveform", "caption"])
def test_clips_without_a_stream_or_caption_are_drawn(missing: str) -> None:
    clip = flash_and_beep().replace(**{missing: None})
    page = build_report("T", [ReportItem(record=measure_clip(clip), clip=clip)])
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert ("spectrogram" in page) == (missing != "waveform")


def test_png_holds_the_picture() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    data = base64.b64decode(png_address(image).partition(",")[2])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    (size,) = struct.unpack(">I", data[33:37])
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + size]), np.uint8).reshape(5, 22)
    assert (rows[:, 0] == 1).all()
    restored = np.cumsum(rows[:, 1:].reshape(5, 7, 3), axis=1, dtype=np.uint8)
    assert (restored == image).all()


def test_waveform_path_stays_in_its_box() -> None:
    path = waveform_path(np.random.default_rng(0).normal(0, 2, (1, 999)), 1.0, 999)
    numbers = [tuple(map(float, pair.split(","))) for pair in path.strip("MZ").split()]
    assert all(0 <= x <= 1000 and -1 <= y <= 101 for x, y in numbers)


def test_rows_hold_no_overlap() -> None:
    spans = [(0, 2), (1, 3), (2, 4), (2.5, 3), (5, 6)]
    rows = pack_rows([Event.at(a, b, "x") for a, b in spans])
    assert sum(map(len, rows)) == 5
    assert len(rows) == 3
    for row in rows:
        assert all(a.end_us <= b.start_us for a, b in pairwise(row))


def test_silent_still_clip_is_drawn() -> None:
    still = Clip(
        frames=np.zeros((5, 16, 16, 3), np.uint8),
        waveform=np.zeros((1, 3200), np.float32),
        caption=caption([]).replace(duration_us=200_000),
    )
    assert "silent" in build_report("T", [ReportItem(record=measure_clip(still), clip=still)])
