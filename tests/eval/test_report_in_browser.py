"""The page of two runs as a real browser shows it, opened from disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from avgen_eval.cli import main
from chromium import EXECUTABLE, MISSING, Page, page
from eval_media import DURATION, FPS, fading, flash_and_beep

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason=MISSING)
PHONE, DESK = 390, 1280
SETTLED = """
Promise.all([...document.querySelectorAll("video")].map((video) => new Promise((done) => {
  const tell = () => done({state: video.readyState, seconds: video.duration, width: video.videoWidth,
                           error: video.error && video.error.message});
  if (video.readyState >= 2 || video.error) tell();
  else for (const name of ["loadeddata", "error"]) video.addEventListener(name, tell);
})))
"""
"""What became of each video, once it has loaded or failed."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a short clip with a caption and a long one without, side by side."""
    folder = tmp_path_factory.mktemp("browser")
    outs = []
    suite = folder / "mine.yaml"
    suite.write_text("{name: mine, clips: [sync, longform]}")
    for name, late in (("first", 0.0), ("a-second-run-with-a-long-name", 0.03)):
        clips = folder / name
        clips.mkdir()
        flash_and_beep(late=late).save(clips / "a-short-one.mp4")
        fading(8.0, drift=late / 3).save(clips / "long.mp4")
        outs.append(str(folder / f"{name}-out"))
        options = ["--suite", str(suite), "--cache", str(folder / "cache"), "--out", outs[-1]]
        assert main(["run", str(clips), *options]) == 0
    path = folder / "report.html"
    assert main(["report", *outs, "--html", str(path), "--clips", "1"]) == 0
    return path


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def desk(tab: Page, report: Path) -> Page:
    tab.errors.clear()
    tab.open(report, DESK)
    return tab


def test_videos_load_and_nothing_goes_wrong(desk: Page) -> None:
    videos: list[dict[str, Any]] = desk.evaluate(SETTLED)
    assert len(videos) == 4
    for video in videos:
        assert video["error"] is None
        assert video["state"] >= 2
        assert video["width"] > 0
    assert sorted(round(video["seconds"], 2) for video in videos) == pytest.approx(
        [DURATION, DURATION, 8, 8], abs=0.06
    )
    assert desk.errors == []


def test_an_error_of_a_script_would_be_seen(desk: Page) -> None:
    desk.evaluate("new Promise((done) => { setTimeout(() => { done(); missing(); }, 0); })")
    desk.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert any("missing is not defined" in text for text in desk.errors)


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_page_is_no_wider_than_its_window(tab: Page, report: Path, width: int) -> None:
    tab.open(report, width)
    tab.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("window.innerWidth") == width
    # Whatever is wider than the window lies in a box of its own that scrolls.
    outside = """[...document.querySelectorAll("main *")].filter((node) =>
        node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".scroll, .timeline")
    ).map((node) => node.outerHTML.slice(0, 80))"""
    assert tab.evaluate(outside) == []


def test_video_seeks_and_its_playhead_follows(desk: Page) -> None:
    desk.evaluate(SETTLED)
    found = desk.evaluate("""new Promise((done) => {
      const video = document.querySelector("video");
      video.addEventListener("seeked", () => setTimeout(() => done([video.currentTime,
        video.closest(".clip").querySelector("output").textContent]), 100));
      video.currentTime = 1;
    })""")
    assert found == [1, "1.00 s"]


def test_video_plays(desk: Page) -> None:
    desk.evaluate(SETTLED)
    played = desk.evaluate("""new Promise((done, fail) => {
      const video = document.querySelector("video");
      video.addEventListener("timeupdate", () => { if (video.currentTime > 0.2) done(video.paused); });
      video.play().catch(fail);
    })""")
    assert played is False
    assert desk.errors == []


def press(tab: Page, selector: str, share: float) -> None:
    """Press the mouse at a share of the width of an element."""
    node = f"document.querySelector({selector!r})"
    tab.evaluate(f"{node}.scrollIntoView({{behavior: 'instant', block: 'center'}})")
    box = tab.evaluate(f"{node}.getBoundingClientRect().toJSON()")
    at = {"x": box["left"] + share * box["width"], "y": box["top"] + box["height"] / 2}
    for kind in ("mousePressed", "mouseReleased"):
        tab.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)


def test_timeline_is_a_slider(desk: Page) -> None:
    desk.evaluate(SETTLED)
    first = "document.querySelector('.clip:has(.event) video').currentTime"
    press(desk, ".clip:has(.event) .plot.sound", 0.5)
    assert desk.evaluate(first) == pytest.approx(DURATION / 2, abs=0.02)
    start = float(desk.evaluate("[...document.querySelectorAll('.event')][2].dataset.start"))
    press(desk, f".clip:has(.event) .event[data-start='{start:g}']", 0.1)
    assert desk.evaluate(first) == pytest.approx(start, abs=1e-3)
    desk.evaluate("document.querySelector('.clip:has(.event) .timeline').focus()")
    for kind in ("keyDown", "keyUp"):
        desk.call("Input.dispatchKeyEvent", type=kind, key="ArrowLeft", code="ArrowLeft")
    assert desk.evaluate(first) == pytest.approx(start - 1 / FPS, abs=1e-3)


def test_captions_travel_along(desk: Page) -> None:
    cues = desk.evaluate("""new Promise((done) => {
      const track = document.querySelector("track");
      track.addEventListener("load", () => done([...track.track.cues].map((cue) => cue.text)));
      track.addEventListener("error", () => done("failed"));
      track.track.mode = "showing";
    })""")
    assert len(cues) == 6
    assert any("flash 0" in text for text in cues)


def test_charts_of_both_runs_are_drawn(desk: Page) -> None:
    sizes = """[...document.querySelectorAll("main > .charts .chart")].map((chart) => [
        chart.querySelector("figcaption").firstChild.textContent.trim(),
        chart.querySelectorAll("path.line").length,
        chart.querySelector("path.line").getBoundingClientRect().width])"""
    charts = {name: (lines, width) for name, lines, width in desk.evaluate(sizes)}
    assert {"offset", "loudness", "brightness"} <= set(charts)
    assert all(lines == 2 and width > 50 for lines, width in charts.values())
