"""The annotation page in a real browser, by keys and mouse."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotated_run import DURATION_US, IDS, PICTURE_ONLY, SOUND_ONLY, caption, make_run
from avgen_data_prep.annotate import annotations
from avgen_data_prep.annotate.server import AnnotationServer
from chromium import EXECUTABLE, MISSING, Page, page

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason=MISSING)
PHONE, DESK = 390, 1280
CLIP = IDS[0]
CODES = {"ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Delete": 46, "Escape": 27, " ": 32}
ALT, SHIFT = 1, 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[AnnotationServer]:
    with AnnotationServer(run, port=0) as started:
        threading.Thread(target=started.serve_forever, daemon=True).start()
        yield started
        started.shutdown()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def none_annotated(run: Path) -> None:
    for path in (run / annotations.FOLDER).glob("*.json"):
        path.unlink()


@pytest.fixture
def desk(tab: Page, server: AnnotationServer) -> Page:
    return open_clip(tab, server)


def open_clip(tab: Page, server: AnnotationServer, clip_id: str = CLIP, width: int = DESK) -> Page:
    tab.errors.clear()
    tab.open("about:blank", width, 800)
    tab.open(f"{server.url}#{clip_id}", width, 800)
    wait(tab, "document.querySelectorAll('.event').length > 0")
    wait(tab, "document.querySelector('video').readyState >= 2")
    wait(tab, "document.querySelector('#wave path, #motion path') !== null")
    return tab


def wait(tab: Page, condition: str) -> None:
    deadline = time.monotonic() + 30
    while not tab.evaluate(condition):
        assert time.monotonic() < deadline, f"never true: {condition}; {status(tab)!r}"
        time.sleep(0.02)


def status(tab: Page) -> str:
    return tab.evaluate("document.querySelector('#status').textContent")


def press(tab: Page, key: str, modifiers: int = 0) -> None:
    rest: dict[str, Any] = {"key": key, "modifiers": modifiers}
    if key in CODES:
        rest["windowsVirtualKeyCode"] = CODES[key]
    text = {"text": "\r"} if key == "Enter" else {}
    tab.call("Input.dispatchKeyEvent", type="keyDown", **rest, **text)
    tab.call("Input.dispatchKeyEvent", type="keyUp", **rest)


def write(tab: Page, text: str) -> None:
    tab.call("Input.insertText", text=text)


def box(tab: Page, selector: str) -> dict[str, float]:
    node = f"document.querySelector({selector!r})"
    tab.evaluate(f"{node}.scrollIntoView({{behavior: 'instant', block: 'center'}})")
    return tab.evaluate(f"{node}.getBoundingClientRect().toJSON()")


def drag(tab: Page, selector: str, by_x: float, by_y: float = 0) -> None:
    at = box(tab, selector)
    x, y = at["left"] + at["width"] / 2, at["top"] + at["height"] / 2
    mouse(tab, "mouseMoved", x, y)
    mouse(tab, "mousePressed", x, y)
    for share in (0.3, 0.7, 1.0):
        mouse(tab, "mouseMoved", x + share * by_x, y + share * by_y)
    mouse(tab, "mouseReleased", x + by_x, y + by_y)


def mouse(tab: Page, kind: str, x: float, y: float, count: int = 1) -> None:
    button = "none" if kind == "mouseMoved" else "left"
    held = 0 if kind == "mouseReleased" else 1
    tab.call(
        "Input.dispatchMouseEvent",
        type=kind,
        x=x,
        y=y,
        button=button,
        buttons=held,
        clickCount=count,
    )


def pixels(tab: Page, us: float) -> float:
    return us / DURATION_US * box(tab, "#ruler")["width"]


def seek(tab: Page, us: int) -> None:
    tab.evaluate(f"""new Promise((done) => {{
      const video = document.querySelector("video");
      video.addEventListener("seeked", () => setTimeout(done, 0), {{ once: true }});
      video.currentTime = {us / 1e6};
    }})""")


def texts_on(tab: Page, track: str) -> list[str]:
    return tab.evaluate(
        f"[...document.querySelectorAll('.lane .event.{track} .says')].map((n) => n.textContent)"
    )


def save(tab: Page) -> None:
    press(tab, "s")
    wait(tab, "!['', 'Saving'].includes(document.querySelector('#status').textContent)")


def saved_event(run: Path, text: str) -> Any:
    captions = annotations.read(run, CLIP)
    assert captions is not None
    (event,) = [event for event in captions[0].events if event.text == text]
    return event


def new_event(tab: Page, text: str, at_us: int, track: str) -> None:
    seek(tab, at_us)
    press(tab, "Escape")
    press(tab, track)
    press(tab, "n")
    write(tab, text)
    press(tab, "Enter")


def test_an_event_is_made_dragged_saved_and_found_again(
    desk: Page, server: AnnotationServer, run: Path
) -> None:
    new_event(desk, "a dog barks", 400_000, "3")
    assert texts_on(desk, "speech") == ["a dog barks"]
    save(desk)
    assert status(desk) == "Saved."
    made = saved_event(run, "a dog barks")
    assert (made.start_us, made.end_us, made.track) == (400_000, 900_000, "speech")
    assert made.provenance == "human"

    tops = """['sfx', 'speech'].map((name) =>
        document.querySelector(`.lane[data-track=${name}]`).getBoundingClientRect().top)"""
    below, above = desk.evaluate(tops)
    drag(desk, ".event.speech", pixels(desk, 300_000), below - above)
    save(desk)
    moved = saved_event(run, "a dog barks")
    assert moved.track == "sfx"
    assert moved.start_us == pytest.approx(700_000, abs=4_000)
    assert moved.end_us - moved.start_us == 500_000

    desk.evaluate("document.querySelector('.event.selected').focus()")
    drag(desk, ".event.selected .grip.end", pixels(desk, -200_000))
    drag(desk, ".event.selected .grip.start", pixels(desk, 100_000))
    save(desk)
    resized = saved_event(run, "a dog barks")
    assert resized.start_us == pytest.approx(moved.start_us + 100_000, abs=4_000)
    assert resized.end_us == pytest.approx(moved.end_us - 200_000, abs=4_000)

    assert desk.errors == []
    again = open_clip(desk, server)
    assert "a dog barks" in texts_on(again, "sfx")
    assert again.evaluate("document.querySelector('#state').textContent") == "annotated"
    assert "✓" in again.evaluate("document.querySelector('#clips [aria-current]').textContent")


def test_keys_move_resize_undo_and_remove(desk: Page) -> None:
    span = "['#event-start', '#event-end'].map((s) => Number(document.querySelector(s).value))"
    before = len(texts_on(desk, "sfx"))
    new_event(desk, "a bell", 1_000_000, "5")
    assert desk.evaluate("document.activeElement.classList.contains('selected')")
    assert desk.evaluate(span) == [1.0, 1.5]
    press(desk, "ArrowRight", ALT)
    assert desk.evaluate(span) == [1.04, 1.54]
    seek(desk, 1_200_000)
    press(desk, "i")
    assert desk.evaluate(span) == [1.2, 1.54]
    seek(desk, 1_400_000)
    press(desk, "o")
    assert desk.evaluate(span) == [1.2, 1.4]
    press(desk, "7")
    assert texts_on(desk, "action") == ["a bell"]
    press(desk, "Delete")
    assert texts_on(desk, "action") == []
    for _ in range(2):
        press(desk, "z")
    assert len(texts_on(desk, "sfx")) == before + 1
    press(desk, "y")
    assert texts_on(desk, "action") == ["a bell"]
    for _ in range(20):
        press(desk, "z")
    assert len(texts_on(desk, "sfx")) == before
    assert desk.evaluate("document.querySelector('#state').textContent") == "not annotated yet"


def test_zoomed_in_and_by_numbers(desk: Page) -> None:
    ends = "['#event-start', '#event-end'].map((s) => Number(document.querySelector(s).value))"
    new_event(desk, "a bell", 1_000_000, "5")
    width = box(desk, "#ruler")["width"]
    for _ in range(2):
        press(desk, "+")
    assert box(desk, "#ruler")["width"] == pytest.approx(4 * width, rel=0.01)
    drag(desk, ".event.selected", pixels(desk, 80_000))
    start, end = desk.evaluate(ends)
    assert (start, end - start) == (pytest.approx(1.08, abs=0.002), pytest.approx(0.5))
    for value, kept in (("0.25", [start, end]), ("1.75", [start, 1.75])):
        desk.evaluate("document.querySelector('#event-end').select()")
        write(desk, value)
        press(desk, "Enter")
        assert desk.evaluate(ends) == kept
        told = desk.evaluate("document.querySelector('#problem').textContent")
        assert ("ends after its start" in told) == (value == "0.25")


def test_frames_and_playing(desk: Page) -> None:
    clock = "document.querySelector('#clock').textContent"
    seek(desk, 0)
    press(desk, "ArrowRight")
    press(desk, "ArrowRight")
    wait(desk, f"{clock} === '0.080 s, frame 2'")
    press(desk, "ArrowLeft")
    wait(desk, f"{clock} === '0.040 s, frame 1'")
    press(desk, "ArrowRight", SHIFT)
    wait(desk, f"{clock} === '1.040 s, frame 26'")
    press(desk, " ")
    wait(
        desk,
        "!document.querySelector('video').paused && document.querySelector('video').currentTime > 1.2",
    )
    press(desk, " ")
    wait(desk, "document.querySelector('video').paused")
    at = box(desk, "#wave")
    mouse(desk, "mousePressed", at["left"] + at["width"] / 4, at["top"] + 5)
    mouse(desk, "mouseReleased", at["left"] + at["width"] / 4, at["top"] + 5)
    assert desk.evaluate("document.querySelector('video').currentTime") == pytest.approx(
        0.5, abs=0.005
    )
    assert desk.errors == []


def test_text_of_the_whole_and_the_next_clip(desk: Page, run: Path) -> None:
    desk.evaluate("document.querySelector('#text-0').select()")
    write(desk, "Two shapes, one <b>& all</b>.")
    press(desk, "Escape")
    press(desk, "j")
    wait(desk, f"location.hash === '#{IDS[1]}'")
    kept = annotations.read(run, CLIP)
    assert kept is not None
    assert kept[0].text == "Two shapes, one <b>& all</b>."
    assert len(kept) == 4
    assert annotations.read(run, IDS[1]) is None
    press(desk, "k")
    wait(desk, "document.querySelector('#text-0').value.startsWith('Two shapes')")


def test_what_is_refused_is_shown_at_its_event(desk: Page, run: Path) -> None:
    seek(desk, 600_000)
    press(desk, "n")
    press(desk, "Escape")
    press(desk, "s")
    wait(desk, "document.querySelector('.event.wrong') !== null")
    told = "Event at 0.60 s has no text: write some, or delete it (Delete)"
    assert status(desk) == f"Not saved: {told}"
    assert desk.evaluate("document.querySelector('#problem').textContent") == told
    assert desk.evaluate("document.querySelector('.event.wrong').classList.contains('selected')")
    assert annotations.read(run, CLIP) is None
    assert desk.evaluate("document.querySelector('#state').textContent") == "changed, not saved"
    press(desk, "j")
    desk.evaluate("new Promise((done) => setTimeout(done, 200))")
    assert desk.evaluate("location.hash") == f"#{CLIP}"
    press(desk, "Enter")
    write(desk, "now there are words")
    press(desk, "Enter")
    save(desk)
    assert status(desk) == "Saved."
    assert desk.evaluate("document.querySelector('.event.wrong')") is None
    assert desk.errors == []


@pytest.mark.parametrize("key", ["z", "Delete"])
def test_what_was_refused_is_forgotten_once_it_is_gone(desk: Page, run: Path, key: str) -> None:
    seek(desk, 600_000)
    press(desk, "n")
    press(desk, "Escape")
    save(desk)
    assert "has no text" in status(desk)
    press(desk, key)
    assert status(desk) == ""
    assert desk.evaluate("document.querySelector('#problem').hidden")
    assert desk.evaluate("document.querySelector('.event.wrong')") is None
    save(desk)
    assert status(desk) == "Saved."
    assert desk.errors == []


def test_a_clip_of_which_nothing_is_said_is_not_sent(desk: Page, run: Path) -> None:
    desk.evaluate("document.querySelector('#text-0').select()")
    write(desk, " ")
    press(desk, "Escape")
    while desk.evaluate("document.querySelectorAll('.event').length"):
        desk.evaluate("document.querySelector('.event').focus()")
        press(desk, "Delete")
    save(desk)
    assert status(desk).endswith("without text, and no event: write what is seen and heard")
    assert annotations.read(run, CLIP) is None
    assert desk.errors == []


def test_clips_are_told_apart_by_their_start(desk: Page) -> None:
    listed = desk.evaluate(
        "[...document.querySelectorAll('#clips small')].map((n) => n.textContent)"
    )
    starts = ("0:12.4", "0:00.0", "1:02:03.9", "0:59.9")
    assert listed == [f"{start}, 2.000 s" for start in starts]
    name = desk.evaluate("document.querySelector('#name').textContent")
    assert name == "holiday/a.mp4 at 0:12.4"


def test_texts_are_shown_whole(desk: Page) -> None:
    desk.evaluate("document.querySelector('#text-3').select()")
    write(desk, "A sentence about what is seen and heard. " * 40)
    hidden = (
        """(node) => [node, node.closest('.words')].some((n) => n.scrollHeight > n.clientHeight)"""
    )
    assert desk.evaluate("document.querySelectorAll('#texts textarea').length") == 4
    assert not desk.evaluate(f"[...document.querySelectorAll('#texts textarea')].some({hidden})")
    assert desk.evaluate("document.querySelector('#text-3').rows") == 41


def test_an_event_is_edited_without_moving_the_timeline(desk: Page) -> None:
    top = "document.querySelector('#lanes').getBoundingClientRect().top"
    before = desk.evaluate(top)
    desk.evaluate("document.querySelector('#lanes .event').focus({ preventScroll: true })")
    assert not desk.evaluate("document.querySelector('#event').hidden")
    assert desk.evaluate(top) == before


def test_on_a_phone_the_list_opens_to_choose_from(tab: Page, server: AnnotationServer) -> None:
    high = "document.querySelector('nav').getBoundingClientRect().height"
    folded = "!document.querySelector('#clips-box').open"
    open_clip(tab, server, width=DESK)
    assert not tab.evaluate(folded)
    tab.call(
        "Emulation.setDeviceMetricsOverride",
        width=PHONE,
        height=800,
        deviceScaleFactor=1,
        mobile=True,
    )
    wait(tab, folded)
    assert tab.evaluate(high) < 50
    tab.evaluate("document.querySelector('#clips-box summary').click()")
    assert tab.evaluate(high) < 250
    tab.evaluate("document.querySelectorAll('#clips button')[1].click()")
    wait(tab, f"location.hash === '#{IDS[1]}'")
    assert tab.evaluate(folded)


@pytest.mark.parametrize("mine", [True, False])
def test_another_page_saved_meanwhile(desk: Page, run: Path, mine: bool) -> None:
    new_event(desk, "mine", 200_000, "5")
    annotations.write(run, CLIP, [caption("theirs")], "")
    save(desk)
    assert "saved from another page" in status(desk)
    assert not desk.evaluate("document.querySelector('#conflict').hidden")
    kept = annotations.read(run, CLIP)
    assert kept == (caption("theirs"),)
    assert "mine" in texts_on(desk, "sfx")
    button = "#keep-mine" if mine else "#take-theirs"
    desk.evaluate(f"document.querySelector({button!r}).click()")
    wait(desk, "document.querySelector('#conflict').hidden")
    if mine:
        assert saved_event(run, "mine").start_us == 200_000
    else:
        wait(desk, "document.querySelector('#text-0').value === 'theirs'")
        assert annotations.read(run, CLIP) == kept


def test_a_clip_without_sound_and_one_without_picture(tab: Page, server: AnnotationServer) -> None:
    open_clip(tab, server, PICTURE_ONLY)
    told = "document.querySelector('#curve-problem').textContent"
    wait(tab, f"{told} === 'This clip has no sound.'")
    open_clip(tab, server, SOUND_ONLY)
    wait(tab, f"{told} === 'This clip has no picture.'")
    assert tab.errors == []


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_page_is_no_wider_than_its_window(tab: Page, server: AnnotationServer, width: int) -> None:
    open_clip(tab, server, width=width)
    assert tab.evaluate("window.innerWidth") == width
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    listed = tab.evaluate(
        "[...document.querySelectorAll('#list button')].map((n) => n.textContent)"
    )
    assert len(listed) == len(tab.evaluate("[...document.querySelectorAll('.event')].map(() => 1)"))


def test_all_controls_have_names_and_nothing_comes_from_elsewhere(
    desk: Page, server: AnnotationServer
) -> None:
    nodes = desk.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "textbox", "combobox", "searchbox", "spinbutton")
    controls = [n for n in nodes if not n["ignored"] and n["role"]["value"] in roles]
    assert len(controls) > 20
    assert [json.dumps(n["role"]) for n in controls if not n["name"]["value"].strip()] == []
    loaded = desk.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(loaded) >= 4
    assert [name for name in loaded if not name.startswith((server.url, "data:"))] == []
    desk.evaluate("document.querySelector('#save').focus()")
    press(desk, "Tab")
    outline = "getComputedStyle(document.activeElement, null).outlineStyle"
    desk.evaluate("document.querySelector('.event').focus()")
    press(desk, "ArrowRight")
    assert desk.evaluate(outline) == "solid"


def test_leaving_with_unsaved_changes_asks(desk: Page, server: AnnotationServer) -> None:
    desk.dialogs.clear()
    open_clip(desk, server)
    assert desk.dialogs == []
    new_event(desk, "a bell", 1_000_000, "5")
    open_clip(desk, server)
    assert desk.dialogs == ["beforeunload"]


def test_without_the_server_nothing_is_lost(desk: Page, run: Path) -> None:
    new_event(desk, "still here", 300_000, "5")
    link = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    desk.call("Network.enable")
    desk.call("Network.emulateNetworkConditions", offline=True, **link)
    press(desk, "s")
    wait(desk, "document.querySelector('#status').textContent.includes('does not answer')")
    assert "still here" in texts_on(desk, "sfx")
    assert annotations.read(run, CLIP) is None
    desk.call("Network.emulateNetworkConditions", offline=False, **link)
    save(desk)
    assert saved_event(run, "still here").start_us == 300_000
