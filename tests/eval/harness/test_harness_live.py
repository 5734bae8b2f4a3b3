import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from avgen_eval.arrivals import (
    MAX_BYTES,
    ArrivalError,
    ArrivalRecorder,
    media_seconds,
    read_arrivals,
)
from avgen_eval.cli import main
from avgen_eval.harness.decode import content_hash, decode
from avgen_eval.harness.manifest import Item, load_items, read_manifest, write_manifest
from avgen_eval.harness.result import Result, read_result
from eval_media import DURATION, flash_and_beep

from avgen.clip import Clip

CHUNK = 0.28


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def session(clip: Clip, clock: Clock, delays: list[float]) -> Iterator[Clip]:
    """Chunks of a clip, each of which takes its time."""
    for i, delay in enumerate(delays):
        clock.now += delay
        yield clip.slice(i * CHUNK, (i + 1) * CHUNK)


def stream(path: Path, delays: list[float]) -> Path:
    """Play a clip of seven chunks to a viewer and keep what came, and when."""
    clip, clock = flash_and_beep(), Clock()
    recorder = ArrivalRecorder(clock)
    came = list(recorder.watch(session(clip, clock, delays)))
    assert clip.frames is not None
    assert np.array_equal(np.concatenate([chunk.frames for chunk in came]), clip.frames)
    clip.save(path)
    return recorder.save(path)


def evaluate(source: Path, out: Path) -> Result:
    options = ["--suite", "live", "--cache", str(out / "cache"), "--out", str(out)]
    assert main(["run", str(source), *options]) == 0
    return read_result(out)


def test_figures_of_a_recorded_session_are_those_computed_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    delays = [0.5, 0.1, 0.1, 1.0, 0.1, 0.1, 0.1]
    written = stream(folder / "a.mp4", delays)
    assert written == folder / "a.arrivals.jsonl"
    result = evaluate(folder, tmp_path / "out")
    assert result.records[0].findings == ()
    value = {name: figure.value for name, figure in result.figures.items()}
    # One chunk (0.28 s) fills the buffer of 0.2 s, so playing starts at 0.5 s. Chunk 3 is due at 0.5 + 3 * 0.28 =
    # 1.34 s and comes at 1.7 s; chunk 4 is due at 1.62 s had nothing waited, and comes at 1.8 s; 5 is due at 1.9.
    assert value["live.first_frame_s"] == value["live.first_sound_s"] == pytest.approx(0.5)
    assert value["live.first_both_s"] == value["live.start_s"] == pytest.approx(0.5)
    assert value["live.stalls"] == 1
    assert value["live.stall_s"] == pytest.approx(1.7 - 1.34)
    assert value["live.miss_share"] == pytest.approx(2 / 7)
    assert value["live.real_time_factor"] == pytest.approx(2.0 / DURATION)
    assert value["live.steady_factor"] == pytest.approx(1.5 / (6 * CHUNK))
    assert value["live.picture_gap_p50_ms"] == pytest.approx(100)
    # The gaps sorted: five of 100 ms and one of 1000; 95% lies three quarters of the way from the fifth to the sixth.
    assert value["live.sound_gap_p95_ms"] == pytest.approx(100 + 0.75 * 900)
    assert value["sync.f1_60ms"] == pytest.approx(1)


def test_session_without_stalls_is_better(tmp_path: Path) -> None:
    for name, delays in (("slow", [0.5] * 7), ("fast", [0.5, *[0.1] * 6])):
        (tmp_path / name).mkdir()
        stream(tmp_path / name / "a.mp4", delays)
    slow, fast = (
        evaluate(tmp_path / name, tmp_path / f"{name}-out").figures for name in ("slow", "fast")
    )
    assert slow["live.stalls"].value == 6
    assert fast["live.stalls"].value == 0


def test_clip_without_arrivals_is_measured_but_for_them(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    flash_and_beep().save(tmp_path / "clips" / "a.mp4")
    result = evaluate(tmp_path / "clips", tmp_path / "out")
    assert "<its name>.arrivals.jsonl" in result.records[0].skipped["live"]
    assert result.figures["live.stalls"].status == "skipped"
    assert result.figures["sync.f1_60ms"].value == pytest.approx(1)


def test_bad_arrivals_are_a_finding(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    flash_and_beep().save(tmp_path / "clips" / "a.mp4")
    (tmp_path / "clips" / "a.arrivals.jsonl").write_text('{"stream": "video"}\n')
    result = evaluate(tmp_path / "clips", tmp_path / "out")
    (finding,) = result.records[0].findings
    assert finding.startswith('arrivals cannot be used: line 1 is \'{"stream": "video"}\'')
    assert result.figures["sync.f1_60ms"].status == "ok"


def test_arrivals_of_another_length_are_a_finding(tmp_path: Path) -> None:
    path = flash_and_beep().save(tmp_path / "a.mp4")
    recorder = ArrivalRecorder(Clock())
    recorder.add({"video": 1.0})
    arrivals = recorder.save(path)
    texts = [
        f.text for f in decode(Item(id="a", prompt="a", video=path, arrivals=arrivals)).findings
    ]
    assert "arrivals hold 1.00 s of video, the clip 1.96 s" in texts
    assert "arrivals hold 0.00 s of audio, the clip 1.96 s" in texts


def test_arrivals_belong_to_the_content(tmp_path: Path) -> None:
    video = flash_and_beep().save(tmp_path / "a.mp4")
    arrivals = tmp_path / "a.arrivals.jsonl"
    hashes = []
    for text in ("one", "two"):
        arrivals.write_text(text)
        hashes.append(content_hash(Item(id="a", prompt="a", video=video, arrivals=arrivals)))
    hashes.append(content_hash(Item(id="a", prompt="a", video=video)))
    assert len(set(hashes)) == 3


def test_arrivals_are_found_beside_clips_and_named_by_manifests(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.arrivals.jsonl", "b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    items = load_items(tmp_path)
    assert [item.arrivals for item in items] == [tmp_path / "a.arrivals.jsonl", None]
    manifest = write_manifest(tmp_path / "m.jsonl", items)
    assert json.loads(manifest.read_text().splitlines()[0])["arrivals"] == "a.arrivals.jsonl"
    assert read_manifest(manifest) == items


def test_recorder_takes_any_chunk_and_asks_for_its_seconds(tmp_path: Path) -> None:
    clock = Clock(5)
    recorder = ArrivalRecorder(clock)
    clock.now = 6.25
    assert list(recorder.watch(["ab", "c"], seconds=lambda text: {"audio": 0.1 * len(text)})) == [
        "ab",
        "c",
    ]
    found = read_arrivals(recorder.save(tmp_path / "deep" / "x.jsonl"))
    assert list(found) == ["audio"]
    assert found["audio"].times.tolist() == [1.25, 1.25]
    assert found["audio"].durations == pytest.approx([0.2, 0.1])


def test_chunk_is_noted_before_the_viewer_has_it() -> None:
    """What a slow viewer does with a chunk delays the next one, not this one."""
    clock = Clock(0)
    recorder = ArrivalRecorder(clock)
    for _ in recorder.watch(iter([1, 2]), seconds=lambda _: {"video": 1.0}):
        clock.now += 3
    assert [row["time"] for row in recorder._rows] == [0, 3]


def test_seconds_of_a_clip_are_those_of_its_streams() -> None:
    clip = flash_and_beep()
    assert media_seconds(clip) == pytest.approx({"video": DURATION, "audio": DURATION})
    assert list(media_seconds(clip.replace(waveform=None))) == ["video"]


def test_recorder_refuses_what_it_could_not_read_back(tmp_path: Path) -> None:
    recorder = ArrivalRecorder()
    for seconds, told in (
        ({}, "no stream"),
        ({"picture": 1.0}, "of 'picture'"),
        ({"video": 0.0}, r"0\.0 s of 'video'"),
        ({"video": float("nan")}, "nan s"),
    ):
        with pytest.raises(ValueError, match=told):
            recorder.add(seconds)
    with pytest.raises(ValueError, match="no chunk arrived"):
        recorder.save(tmp_path / "a.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("[]", "line 2 is '\\[\\]'; it needs `stream`"),
        ('{"stream": "text", "time": 1, "duration": 1}', r"`stream` \(video or audio\)"),
        ('{"stream": [], "time": 1, "duration": 1}', "needs `stream`"),
        ('{"stream": "video", "time": "1", "duration": 1}', "time is '1'"),
        ('{"stream": "video", "time": true, "duration": 1}', "time is True"),
        ('{"stream": "video", "time": 1e999, "duration": 1}', "video: times must be seconds"),
        ('{"stream": "video", "time": 1, "duration": NaN}', "video: durations must be positive"),
        ('{"stream": "video", "time": 0.1, "duration": 1}', "video: times .* do not decrease"),
        (f'{{"stream": "video", "time": 1{"0" * 400}, "duration": 1}}', "too large"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"stream": "video", "time": 0.5, "duration": 1}\n' + line + "\n")
    with pytest.raises(ArrivalError, match=told):
        read_arrivals(path)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with pytest.raises(ArrivalError, match="does not exist"):
        read_arrivals(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ArrivalError, match=r"cannot be read as text \(not UTF-8\)"):
        read_arrivals(path)
    path.write_text("\n\n")
    with pytest.raises(ArrivalError, match="holds no chunk"):
        read_arrivals(path)
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ArrivalError, match="above the limit"):
        read_arrivals(path)
