import csv
import io
import json
import shutil
import tarfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from avgen_data_prep.formats import FORMATS, export_dataset, import_dataset
from avgen_data_prep.formats.entry import prose
from avgen_data_prep.media_bytes import mp4_bytes

from avgen.caption import Event, TimedCaption
from avgen.clip import Clip
from avgen.data.dataset import MediaDataset
from avgen.data.schema import DatasetError, DatasetInfo
from avgen.data.shards import Example, finish, write_shard

DURATION = 200_000


def caption(number: int, words: str) -> TimedCaption:
    events = (
        Event(start_us=40_000, end_us=80_001, track="sfx", text="a „knock“, loud", id="k",
              confidence=0.25, provenance="onsets"),
        Event(start_us=80_000, end_us=200_000, track="speech", text="she says \"yes\"", cause="k",
              entity="Zoë"),
    )  # fmt: skip
    return TimedCaption(
        duration_us=DURATION, text=f"{words} {number}", language="de", events=events[: number % 3]
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    examples = []
    for number in range(5):
        rng = np.random.default_rng(number)
        clip = Clip(
            frames=rng.integers(0, 255, (5, 16, 16, 3), dtype=np.uint8),
            fps=Fraction(25),
            waveform=None if number == 4 else rng.normal(0, 0.1, (1, 3200)).astype(np.float32),
            sample_rate=16_000,
        )
        examples.append(
            Example.of_clip(
                clip,
                id=f"clip-{number:02d}",
                captions=(caption(number, "eine Zeile,\nund noch eine"), caption(number, "other")),
                source="film.mov",
                seed=None if number % 2 else number,
                metadata={"start_us": 40_000 * number, "note": "ä\u2028b"},
                media=mp4_bytes(clip),
                source_sha256="a" * 64,
                licence="CC-BY-4.0" if number else None,
                faces=bool(number % 2),
            )
        )
    write_shard(folder, "shard-00000.tar", examples[:3])
    write_shard(folder, "shard-00001.tar", examples[3:])
    finish(folder, ["shard-00000.tar", "shard-00001.tar"], DatasetInfo())
    return folder


def contents(folder: Path) -> dict[str, tuple]:
    opened = MediaDataset(folder)
    rows = opened.manifest.to_pylist()
    told = ("duration_us", "num_frames", "height", "width", "fps_numerator", "num_samples",
            "sample_rate")  # fmt: skip
    return {
        row["id"]: (opened.provenance(i), opened.media(i), [row[name] for name in told])
        for i, row in enumerate(rows)
    }


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_exported_comes_back_the_same(dataset: Path, tmp_path: Path, name: str) -> None:
    assert export_dataset(FORMATS[name], dataset, tmp_path / "out") == 5
    info, records = import_dataset(FORMATS[name], tmp_path / "out", tmp_path / "back")
    assert records == []
    assert info.counts == {"clips": 5, "found": 5, "failed": 0}
    assert contents(tmp_path / "back") == contents(dataset)


@pytest.mark.parametrize("name", FORMATS)
def test_exports_of_one_dataset_are_the_same_bytes(
    dataset: Path, tmp_path: Path, name: str
) -> None:
    for out in "ab":
        export_dataset(FORMATS[name], dataset, tmp_path / out)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_a_changed_clip_and_a_missing_one_are_told_and_the_rest_is_kept(
    dataset: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    export_dataset(FORMATS[name], dataset, out)
    if name == "webdataset":
        tar = next(out.glob("*.tar"))
        with tarfile.open(tar) as file:
            first, last = (file.getmember(f"clip-0{i}.mp4") for i in (0, 4))
        data = bytearray(tar.read_bytes())
        data[first.offset_data + 200] ^= 1
        tar.write_bytes(data[: last.offset_data + 30])
    else:
        clips = {path.name: path for path in out.rglob("*.mp4")}
        data = bytearray(clips["clip-00.mp4"].read_bytes())
        data[200] ^= 1
        clips["clip-00.mp4"].write_bytes(data)
        clips["clip-04.mp4"].write_bytes(b"")
    info, records = import_dataset(FORMATS[name], out, tmp_path / "back")
    reasons = {record["file"]: record["reason"] for record in records}
    assert "not those that were exported" in reasons["clip-00"]
    assert "truncated" in reasons["clip-04"] or "no MP4" in reasons["clip-04"]
    assert info.num_examples == 3
    failed = pq.ParquetFile(tmp_path / "back" / "failed.parquet").read().to_pylist()
    assert failed == records


def test_hugging_face_datasets_loads_the_export_without_decoding(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export_dataset(FORMATS["huggingface"], dataset, out)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 5
    row = loaded[2]
    assert row["media"] == "media/clip-02.mp4"
    assert (out / row["media"]).is_file()
    events = row["captions"][0]["events"]
    assert [event["start_us"] for event in events] == [40_000, 80_000]
    assert events[1]["cause"] == "k"
    assert loaded.features["media"].dtype == "string"
    assert "Video" not in str(loaded.features)
    assert "Audio" not in str(loaded.features)


def test_tars_hold_pairs_of_json_and_mp4_under_one_key(dataset: Path, tmp_path: Path) -> None:
    export_dataset(FORMATS["webdataset"], dataset, tmp_path / "out")
    known = contents(dataset)
    with tarfile.open(next((tmp_path / "out").glob("*.tar"))) as tar:
        names = tar.getnames()
        assert names == [f"clip-0{i}.{end}" for i in range(5) for end in ("json", "mp4")]
        for name in names[::2]:
            key = name.partition(".")[0]
            told = json.load(tar.extractfile(name))
            assert told["caption"].startswith("eine Zeile, und noch eine")
            assert tar.extractfile(f"{key}.mp4").read() == known[key][1]


@pytest.mark.parametrize(
    ("name", "file"), [("ltx-csv", "dataset.csv"), ("ltx-jsonl", "dataset.jsonl")]
)
def test_ltx_metadata_hold_two_columns_and_paths_from_their_folder(
    dataset: Path, tmp_path: Path, name: str, file: str
) -> None:
    out = tmp_path / "out"
    export_dataset(FORMATS[name], dataset, out)
    text = (out / file).read_text(encoding="utf-8")
    rows = (
        list(csv.DictReader(io.StringIO(text, newline="")))
        if file.endswith("csv")
        else [json.loads(line) for line in text.strip().split("\n")]
    )
    assert [set(row) for row in rows] == [{"caption", "media_path"}] * 5
    assert all((out / row["media_path"]).is_file() for row in rows)
    assert rows[2]["caption"] == ('eine Zeile, und noch eine 2. a „knock“, loud. she says "yes"')


def test_an_edited_ltx_caption_wins_and_keeps_the_events(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_dataset(FORMATS["ltx-csv"], dataset, out)
    path = out / "dataset.csv"
    path.write_text(path.read_text().replace("noch eine 2.", "corrected 2."))
    import_dataset(FORMATS["ltx-csv"], out, tmp_path / "back")
    captions = contents(tmp_path / "back")["clip-02"][0]["captions"]
    assert [c.text.split(". ")[0] for c in captions] == ["eine Zeile, und corrected 2"]
    assert captions[0].events == caption(2, "").events


def test_an_edited_sidecar_wins(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_dataset(FORMATS["folder"], dataset, out)
    edited = caption(1, "edited by hand")
    edited.save(out / "clip-01.json")
    (out / "clip-02.json").unlink()  # the subtitles stand in for it
    import_dataset(FORMATS["folder"], out, tmp_path / "back")
    found = contents(tmp_path / "back")
    assert found["clip-01"][0]["captions"] == (edited,)
    assert [e.text for e in found["clip-02"][0]["captions"][0].events] == [
        e.text for e in caption(2, "").events
    ]


@pytest.fixture
def foreign(dataset: Path, tmp_path: Path) -> Path:
    """Clips as other tools lay them out, with nothing of avgen beside them."""
    folder = tmp_path / "foreign"
    (folder / "a b").mkdir(parents=True)
    for number, (_, media, _) in enumerate(contents(dataset).values()):
        (folder / "a b" / f"{number}.mp4").write_bytes(media)
    return folder


def foreign_captions(folder: Path) -> list[str]:
    found = contents(folder).values()
    assert all(told == [DURATION, 5, 16, 16, 25, *told[5:]] for _, _, told in found)
    assert all(c["captions"][0].duration_us == DURATION for c, _, _ in found)
    return [c["captions"][0].text for c, _, _ in found]


def test_a_foreign_ltx_file_with_the_newer_column_is_read(foreign: Path, tmp_path: Path) -> None:
    rows = [{"video": f"a b/{i}.mp4", "caption": f"clip {i}", "fps": 25} for i in range(5)]
    (foreign / "dataset.json").write_text(json.dumps(rows))
    import_dataset(FORMATS["ltx-jsonl"], foreign, tmp_path / "back")
    assert sorted(foreign_captions(tmp_path / "back")) == [f"clip {i}" for i in range(5)]


def test_a_foreign_tar_is_read_by_its_text_or_json(foreign: Path, tmp_path: Path) -> None:
    with tarfile.open(foreign / "x.tar", "w") as tar:
        for i in range(4):
            text = f"clip {i}".encode() if i % 2 else json.dumps({"caption": f"clip {i}"}).encode()
            for end, data in (
                ("txt" if i % 2 else "json", text),
                ("mp4", (foreign / "a b" / f"{i}.mp4").read_bytes()),
            ):
                header = tarfile.TarInfo(f"part/k{i}.{end}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
        tar.addfile(tarfile.TarInfo("part/lonely.txt"), io.BytesIO(b""))
    _, records = import_dataset(FORMATS["webdataset"], foreign / "x.tar", tmp_path / "back")
    assert sorted(foreign_captions(tmp_path / "back")) == [f"clip {i}" for i in range(4)]
    assert [r["reason"] for r in records] == ["key part/lonely has no mp4 member (only txt)"]


def test_a_foreign_folder_is_read_by_its_text_files(foreign: Path, tmp_path: Path) -> None:
    for i in range(4):
        (foreign / "a b" / f"{i}.txt").write_text(f"clip {i}\n")
    (foreign / "other.mkv").write_bytes(b"x")
    _, records = import_dataset(FORMATS["folder"], foreign, tmp_path / "back")
    assert sorted(foreign_captions(tmp_path / "back")) == [f"clip {i}" for i in range(4)]
    assert [(r["file"], r["reason"].partition(";")[0]) for r in records] == [
        ("a b/4", "a b/4 has no caption"),
        ("other.mkv", ".mkv is no MP4 file"),
    ]


def test_files_outside_the_folder_and_other_rows_are_refused(
    dataset: Path, foreign: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.mp4"
    shutil.copy(foreign / "a b" / "0.mp4", secret)
    (foreign / "link.mp4").symlink_to(secret)
    rows = [{"caption": "x", "media_path": p} for p in ("../secret.mp4", str(secret), "link.mp4")]
    lines = [*map(json.dumps, rows), '"text"', '{"caption": "y"}']
    lines += [json.dumps({"caption": "good", "media_path": "a b/1.mp4"})]
    (foreign / "dataset.jsonl").write_text("\n".join(lines))
    info, records = import_dataset(FORMATS["ltx-jsonl"], foreign, tmp_path / "back")
    assert info.num_examples == 1
    reasons = [record["reason"] for record in records]
    assert sum("lies outside" in reason for reason in reasons) == 3
    assert sum("names no file" in reason for reason in reasons) == 2


def test_senseless_places_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        import_dataset(FORMATS["folder"], tmp_path / "none", tmp_path / "back")
    (tmp_path / "empty").mkdir()
    for name in FORMATS:
        with pytest.raises(DatasetError, match=r"holds (no clips|none of)"):
            import_dataset(FORMATS[name], tmp_path / "empty", tmp_path / "back")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(DatasetError, match="is not an empty folder"):
        export_dataset(FORMATS["folder"], dataset, tmp_path / "full")
    (tmp_path / "dataset.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="not readable as csv"):
        import_dataset(FORMATS["ltx-csv"], tmp_path / "dataset.csv", tmp_path / "back")


def test_datasets_without_media_cannot_be_exported(dataset: Path, tmp_path: Path) -> None:
    opened = MediaDataset(dataset)
    row = opened.provenance(0)
    example = Example(
        **{**row, "media": None}, duration_us=DURATION, num_frames=5, height=16, width=16,
        fps=Fraction(25), num_samples=0, sample_rate=16_000,
    )  # fmt: skip
    write_shard(tmp_path / "d", "a.tar", [example])
    finish(tmp_path / "d", ["a.tar"], DatasetInfo())
    with pytest.raises(DatasetError, match="1 of 1 clips have no media to export"):
        export_dataset(FORMATS["folder"], tmp_path / "d", tmp_path / "out")


def test_prose_says_each_thing_once_and_ends_its_sentences() -> None:
    told = caption(2, "A  door.")
    doubled = replace(told, events=(*told.events, told.events[0].replace(id=None)))
    assert prose(doubled) == 'A door. 2. a „knock“, loud. she says "yes"'
    assert prose(replace(told, text="", events=())) == ""
