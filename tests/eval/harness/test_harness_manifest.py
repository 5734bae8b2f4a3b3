import json
from pathlib import Path

import pytest
from avgen_eval.harness.decode import content_hash, decode
from avgen_eval.harness.manifest import (
    Item,
    ManifestError,
    load_items,
    read_manifest,
    write_manifest,
)

from avgen.caption import Event, TimedCaption

CAPTION = TimedCaption(
    duration_us=1_000_000, text="a ball", events=(Event.at(0.2, 0.3, "hits", "visual"),)
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    items = [
        Item(
            id="a/1",
            prompt="a",
            video=tmp_path / "clips" / "1.mp4",
            reference_video=tmp_path / "real.mp4",
            seed=3,
            caption=CAPTION,
            meta={"model": "tiny"},
        ),
        Item(id="b", prompt="b", audio=tmp_path / "b.wav", caption_file=tmp_path / "b.vtt"),
    ]
    path = write_manifest(tmp_path / "clips.jsonl", items)
    assert read_manifest(path) == items
    row = json.loads(path.read_text().splitlines()[0])
    assert row["video"] == "clips/1.mp4"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", r"m.jsonl:2: not JSON"),
        ('{"video": "x.mp4"}', "needs an object with a text `id`"),
        ('{"id": "x"}', "names neither `video` nor `audio`"),
        ('{"id": "x", "video": 3}', "give a path as text"),
        ('{"id": "x", "video": "x.mp4", "sed": 1}', "unknown field 'sed'"),
        ('{"id": "first", "video": "x.mp4"}', "is there twice"),
        ('{"id": "x", "video": "x.mp4", "caption": {"text": 1}}', "m.jsonl:2: caption"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "first", "video": "a.mp4"}\n' + line + "\n")
    with pytest.raises(ManifestError, match=told):
        read_manifest(path)


def test_records_of_an_export_are_told_from_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "avgen.jsonl"
    path.write_text('{"id": "a", "consent": null, "media_sha256": "0"}\n')
    with pytest.raises(
        ManifestError, match=r"`avgen prep export`, not a manifest; give the folder"
    ):
        read_manifest(path)


def test_empty_and_unreadable_manifests(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text("\n\n")
    with pytest.raises(ManifestError, match="holds no clips"):
        read_manifest(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="cannot be read as text"):
        read_manifest(path)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "none.jsonl")


def test_folder_pairs_by_stem(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.wav", "sub/b.MP4", "sub/b.vtt", "c.wav", "notes.txt"):
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").write_bytes(b"x")
    items = {item.id: item for item in load_items(tmp_path / "out", tmp_path / "real")}
    assert list(items) == ["a", "c", "sub/b"]
    assert items["a"].audio == tmp_path / "out" / "a.wav"
    assert items["a"].reference_video == tmp_path / "real" / "a.mp4"
    assert items["c"].video is None
    assert items["sub/b"].caption_file == tmp_path / "out" / "sub" / "b.vtt"


def test_files_and_folders_are_named_below_what_they_share(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.webm", "a.truth.json", "one/b.mp4", "two/b.mp4", "two/odd.bin"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (alone,) = load_items([tmp_path / "a.mp4"])
    assert (alone.id, alone.video, alone.truth) == (
        "a",
        tmp_path / "a.mp4",
        tmp_path / "a.truth.json",
    )
    given = [tmp_path / "one", tmp_path / "two" / "b.mp4", tmp_path / "two" / "odd.bin"]
    assert [item.id for item in load_items(given)] == ["one/b", "two/b", "two/odd"]
    everything = load_items([tmp_path, tmp_path / "a.mp4"])
    assert [item.id for item in everything] == ["a", "a.webm", "one/b", "two/b"]
    with pytest.raises(ManifestError, match="a manifest is given alone"):
        load_items([tmp_path / "m.jsonl", tmp_path])


def test_lines_of_clips_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "a", "error": "out of memory"}\n')
    (item,) = read_manifest(path)
    (finding,) = decode(item).findings
    assert (finding.text, finding.fatal) == ("could not be made: out of memory", True)
    assert content_hash(item) != content_hash(Item(id="a", prompt="a", error="another"))
    path.write_text('{"id": "a", "caption_file": "a.vtt"}\n')
    assert read_manifest(path, captions_only=True)[0].caption_file == tmp_path / "a.vtt"
    with pytest.raises(ManifestError, match="say in `error` why it was not made"):
        read_manifest(path)


def test_folder_without_clips(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="holds no clips"):
        load_items(tmp_path)
    with pytest.raises(ManifestError, match="no such file or folder"):
        load_items(tmp_path / "none")


def test_manifest_names_its_own_references(tmp_path: Path) -> None:
    path = write_manifest(
        tmp_path / "m.jsonl", [Item(id="a", prompt="a", video=tmp_path / "a.mp4")]
    )
    assert load_items(path)[0].id == "a"
    with pytest.raises(ManifestError, match="leave out --ref"):
        load_items(path, tmp_path)
