from pathlib import Path

import numpy as np
import pytest
from avgen_eval.harness import extract as module
from avgen_eval.harness.cache import ERROR, NOT_APPLICABLE, Extract, ExtractCache
from avgen_eval.harness.decode import content_hash
from avgen_eval.harness.extract import KILLED, Extraction
from avgen_eval.harness.extractors import (
    Extractor,
    Integrity,
    PictureEvents,
    SoundEvents,
    TemporalValues,
    stored_motion,
)
from avgen_eval.harness.manifest import Item
from avgen_eval.harness.score import score
from avgen_eval.harness.suite import load_suite
from deadly import Deadly, Failing
from eval_media import flash_and_beep

from avgen.measure.flow import optical_flow
from avgen.measure.motion import picture_impacts

EVENTS = (SoundEvents(), PictureEvents())


def extract_of(extraction: Extraction, item: Item, extractor: Extractor) -> Extract | None:
    return ExtractCache(extraction.cache).get(content_hash(item), extractor.signature)


def items(folder: Path, lengths: tuple[int, ...]) -> list[Item]:
    made = []
    for length in lengths:
        clip = flash_and_beep((2, 8))
        assert clip.frames is not None
        assert clip.waveform is not None
        short = clip.replace(
            frames=clip.frames[:length], waveform=clip.waveform[:, : length * 640], caption=None
        )
        made.append(
            Item(id=str(length), prompt=str(length), video=short.save(folder / f"{length}.mp4"))
        )
    return made


def test_extracts_are_stored_and_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extraction = Extraction(extractors=EVENTS, cache=tmp_path / "cache")
    clips = items(tmp_path, (20, 30))
    extraction.run_all(clips)
    stored = extract_of(extraction, clips[0], PictureEvents())
    assert stored is not None
    assert stored.arrays["times"] == pytest.approx(picture_impacts(stored_motion(stored)))
    assert stored.arrays["times"] == pytest.approx([0.06, 0.30], abs=0.005)
    about = extract_of(extraction, clips[1], Integrity())
    assert about is not None
    assert about.values["num_frames"] == 30
    assert about.values["findings"] == []

    def refuse(item: Item) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(module, "decode", refuse)
    extraction.run_all(clips)


def test_damaged_extract_is_made_again(tmp_path: Path) -> None:
    extraction = Extraction(extractors=EVENTS, cache=tmp_path / "cache")
    item = items(tmp_path, (20,))[0]
    extraction.run(item)
    cache = ExtractCache(tmp_path / "cache")
    path = cache.path(content_hash(item), SoundEvents().signature)
    whole = path.read_bytes()
    for damage in (whole[:50], b"", whole[: len(whole) // 2]):
        path.write_bytes(damage)
        assert extract_of(extraction, item, SoundEvents()) is None
        extraction.run(item)
        assert extract_of(extraction, item, SoundEvents()) is not None


def test_missing_stream_is_not_an_error(tmp_path: Path) -> None:
    clip = flash_and_beep().replace(waveform=None)
    item = Item(id="x", prompt="x", video=clip.save(tmp_path / "x.mp4"))
    extraction = Extraction(extractors=EVENTS, cache=tmp_path / "cache")
    extraction.run(item)
    stored = extract_of(extraction, item, SoundEvents())
    assert stored is not None
    assert stored.values == {NOT_APPLICABLE: True}


def test_error_of_an_extractor_is_kept(tmp_path: Path) -> None:
    extraction = Extraction(extractors=(Failing(), SoundEvents()), cache=tmp_path / "cache")
    clips = items(tmp_path, (20,))
    extraction.run_all(clips)
    stored = extract_of(extraction, clips[0], Failing())
    assert stored is not None
    assert stored.values == {ERROR: "ZeroDivisionError: by nothing"}


def test_clip_that_kills_its_process_is_isolated(tmp_path: Path) -> None:
    extraction = Extraction(extractors=(Deadly(),), cache=tmp_path / "cache")
    ticks: list[int] = []
    clips = items(tmp_path, (10, 13, 16, 19))
    extraction.run_all(clips, workers=2, progress=ticks.append)
    about = [extract_of(extraction, clip, Integrity()) for clip in clips]
    errors = [a.values.get(ERROR) for a in about if a is not None]
    assert errors == [None, KILLED, None, None]
    assert sum(ticks) == 4


def test_workers_and_one_process_store_the_same(tmp_path: Path) -> None:
    clips = items(tmp_path, (20, 25))
    for folder, workers in (("one", 0), ("two", 2)):
        extraction = Extraction(extractors=EVENTS, cache=tmp_path / folder)
        contents = extraction.run_all(clips, workers=workers)
        assert contents == {clip.id: content_hash(clip) for clip in clips}
    for path in sorted((tmp_path / "one").rglob("*.npz")):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        with np.load(path) as a, np.load(other) as b:
            assert all(np.array_equal(a[name], b[name]) for name in a.files)


def test_cache_keeps_arrays_and_values(tmp_path: Path) -> None:
    cache = ExtractCache(tmp_path)
    extract = Extract(arrays={"a": np.arange(3.0)}, values={"x": None, "y": [1, "z"]})
    cache.put("00ff", "s-v1", extract)
    back = cache.get("00ff", "s-v1")
    assert back is not None
    assert back.values == extract.values
    assert np.array_equal(back.arrays["a"], extract.arrays["a"])
    assert cache.get("00ff", "s-v2") is None


def test_flow_is_made_once_for_all_that_measure_motion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counted(grey: np.ndarray) -> np.ndarray:
        made.append(len(grey))
        return optical_flow(grey)

    monkeypatch.setattr("avgen.measure.flow.optical_flow", counted)
    both = Extraction(extractors=(PictureEvents(), TemporalValues()), cache=tmp_path / "both")
    item = items(tmp_path, (20,))[0]
    both.run(item)
    assert made == [20]
    for extractor in both.extractors:
        alone = Extraction(extractors=(extractor,), cache=tmp_path / extractor.name)
        alone.run(item)
        first, second = (extract_of(e, item, extractor) for e in (both, alone))
        assert first is not None
        assert second is not None
        assert first.values == second.values


def test_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counted(item: Item) -> str:
        hashed.append(item.id)
        return content_hash(item)

    for name in ("extract", "score"):
        monkeypatch.setattr(f"avgen_eval.harness.{name}.content_hash", counted)
    clips = items(tmp_path, (20, 25))
    suite, cache = load_suite("smoke"), tmp_path / "cache"
    contents = Extraction(extractors=suite.extractors, cache=cache).run_all(clips)
    known = score(suite, clips, ExtractCache(cache), contents=contents)
    assert hashed == ["20", "25"]
    assert contents == {clip.id: content_hash(clip) for clip in clips}
    assert score(suite, clips, ExtractCache(cache)).records == known.records
    assert hashed == ["20", "25"] * 2
