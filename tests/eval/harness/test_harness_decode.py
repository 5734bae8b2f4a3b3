import json
from pathlib import Path

import numpy as np
import pytest
from avgen_eval.harness.decode import caption_problem, content_hash, decode
from avgen_eval.harness.manifest import Item
from eval_media import caption, flash_and_beep
from strange_files import kinds, write_at_another_rate, write_strange_files


def item(path: Path, **fields: object) -> Item:
    return Item(id="x", prompt="x", video=path, **fields)  # type: ignore[arg-type]


def codes(decoded: object) -> set[str]:
    return {finding.code for finding in decoded.findings}  # type: ignore[attr-defined]


def test_good_clip_has_no_findings(tmp_path: Path) -> None:
    path = flash_and_beep().save(tmp_path / "a.mp4")
    decoded = decode(item(path))
    assert decoded.findings == ()
    assert decoded.clip is not None
    assert decoded.clip.frames is not None
    assert decoded.caption is not None
    assert decoded.caption.text.startswith("a square")


def test_sound_of_its_own_replaces_that_of_the_picture(tmp_path: Path) -> None:
    path = flash_and_beep().save(tmp_path / "a.mp4")
    late = flash_and_beep(late=0.2).replace(frames=None).save(tmp_path / "late.mp4")
    decoded = decode(item(path, audio=late))
    original = decode(item(path)).clip
    assert decoded.clip is not None
    assert original is not None
    assert decoded.clip.frames is not None
    assert not np.array_equal(decoded.clip.waveform, original.waveform)  # type: ignore[arg-type]


def test_mismatches_are_findings(tmp_path: Path) -> None:
    clip = flash_and_beep()
    path = clip.replace(waveform=None).save(tmp_path / "a.mp4")
    assert clip.frames is not None
    changes = {"frames": clip.frames[:30, :48, :48], "fps": 20, "waveform": None}
    shorter = clip.replace(**changes).save(tmp_path / "b.mp4")
    found = codes(decode(item(path, reference_video=shorter)))
    assert found == {"no_audio", "reference_length", "reference_fps", "reference_size"}
    assert codes(decode(item(tmp_path / "none.mp4"))) == {"missing", "nothing"}
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    assert "caption" in codes(decode(item(path, caption_file=bad)))


def test_first_of_a_list_of_captions_is_what_was_asked_for(tmp_path: Path) -> None:
    clip = flash_and_beep()
    path = clip.save(tmp_path / "a.mp4")
    captions = [caption([0.5, 1.0]), caption([0.5, 1.0]).replace(text="the same in other words")]
    beside = tmp_path / "a.json"
    beside.write_text(json.dumps([c.to_dict() for c in captions]))
    decoded = decode(item(path, caption_file=beside))
    assert decoded.findings == ()
    assert decoded.caption == captions[0].cropped(0, clip.duration)
    beside.write_text("[]")
    (finding,) = decode(item(path, caption_file=beside)).findings
    assert finding.text.startswith("caption cannot be used: caption: JSON is []")
    assert "a list that holds one" in caption_problem(item(path, caption_file=beside))


def test_clip_of_another_rate_than_recorded_is_read_at_its_own(tmp_path: Path) -> None:
    path, slower = flash_and_beep().save(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    write_at_another_rate(path, slower, 24)
    for file, fps in ((path, 25), (slower, 24)):
        clip = decode(item(file)).clip
        assert clip is not None
        assert clip.fps == fps


def test_content_decides_the_hash(tmp_path: Path) -> None:
    path = flash_and_beep().save(tmp_path / "a.mp4")
    other = tmp_path / "b.mp4"
    other.write_bytes(path.read_bytes())
    assert content_hash(item(path)) == content_hash(item(other))
    assert content_hash(item(path)) != content_hash(item(path, reference_video=other))
    other.write_bytes(path.read_bytes()[:-1])
    assert content_hash(item(path)) != content_hash(item(other))


def test_strange_files_never_raise(tmp_path: Path) -> None:
    paths = write_strange_files(tmp_path / "strange", 42)
    for path, kind in zip(paths, kinds(paths), strict=True):
        decoded = decode(item(path))
        assert (decoded.clip is None) == any(f.fatal for f in decoded.findings), kind
        if kind in ("empty", "text", "noise"):
            assert "undecodable" in codes(decoded), kind
        if kind in ("odd_size", "slow_mono"):
            assert decoded.findings == (), kind
        for finding in decoded.findings:
            assert str(tmp_path) not in finding.text


@pytest.mark.parametrize("kind", ["surround", "long_sound", "variable_rate", "one_frame"])
def test_what_can_be_decoded_is(tmp_path: Path, kind: str) -> None:
    paths = write_strange_files(tmp_path / "strange", 14)
    chosen = next(path for path, k in zip(paths, kinds(paths), strict=True) if k == kind)
    decoded = decode(item(chosen))
    assert decoded.clip is not None
    expected = {
        "surround": {"no_video"},
        "long_sound": {"length"},
        "variable_rate": {"no_audio"},
        "one_frame": set(),
    }
    assert codes(decoded) == expected[kind]
