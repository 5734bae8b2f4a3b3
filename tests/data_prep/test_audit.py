"""What an audit counts and names, in a packed dataset and in the folder of a run."""

import io
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from avgen_data_prep.annotate import annotations
from avgen_data_prep.audit import Audit, audit
from avgen_data_prep.pipeline.manifest import MANIFEST
from rich.console import Console

from avgen.caption import Event, TimedCaption
from avgen.data.schema import CodecInfo, DatasetInfo, TextInfo
from avgen.data.shards import Example, finish, write_shard
from avgen.data.storage import DatasetError

HOUR_US = 3_600_000_000


def caption(text: str = "A dog.", provenance: str | None = None) -> TimedCaption:
    event = Event(start_us=0, end_us=9, track="sfx", text="a bark", provenance=provenance)
    return TimedCaption(duration_us=HOUR_US, text=text, events=(event,))


GOOD = Example(
    id="good",
    captions=(caption(),),
    duration_us=HOUR_US,
    num_frames=0,
    height=0,
    width=0,
    fps=Fraction(25),
    num_samples=16_000,
    sample_rate=16_000,
    source="good.mp4",
    source_sha256="1" * 64,
    licence="CC-BY-4.0",
    consent="forms/7.pdf",
    faces=True,
    metadata={"caption_source": "human"},
    media=b"bytes",
)


def dataset(folder: Path, *examples: Example, **info: object) -> Path:
    folder.mkdir()
    write_shard(folder, "shard-00000.tar", examples)
    finish(folder, ["shard-00000.tar"], DatasetInfo(**info))  # type: ignore[arg-type]
    return folder


def shown(found: Audit) -> str:
    console = Console(file=io.StringIO(), width=80)
    for part in found.tables():
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def exclusion(folder: Path, *entries: str) -> Path:
    path = folder / "never.txt"
    path.write_text("\n".join(entries) + "\n")
    return path


def test_a_dataset_that_lacks_nothing(tmp_path: Path) -> None:
    nobody = replace(
        GOOD, id="nobody", source="n.mp4", source_sha256="2" * 64, faces=False, consent=None
    )
    world = replace(
        GOOD,
        id="world",
        source="bounce",
        seed=3,
        source_sha256=None,
        licence=None,
        consent=None,
        faces=None,
        metadata={},
        captions=(caption(provenance="bounce"),),
    )
    video = CodecInfo(identity="v" * 64, latent_channels=2)
    folder = dataset(
        tmp_path / "data",
        GOOD,
        nobody,
        world,
        video_codec=video,
        text_encoder=TextInfo(identity="t" * 64, width=8),
    )
    found = audit(folder, exclusion(tmp_path, "9" * 64))
    assert found.missing == ()
    assert (found.kind, found.clips, found.rendered, found.sources) == ("dataset", 3, 1, 2)
    assert found.hours == pytest.approx(3)
    assert found.licences == {"CC-BY-4.0": 2}
    assert found.faces == {"none": 1, "seen": 1}
    assert found.consents == {"forms/7.pdf": 1, "unknown": 1}
    assert found.captions == {"human": 2, "bounce": 1}
    assert found.weights == {"video codec": "v" * 64, "text encoder": "t" * 64}
    told = shown(found)
    assert "nothing that this audit looks for" in told
    assert "v" * 64 in told
    assert json.loads(found.to_json())["exclusions"]["hits"] == []


def test_what_is_missing_is_counted_and_named(tmp_path: Path) -> None:
    bare = replace(
        GOOD,
        id="bare",
        source="phone/b.mp4",
        source_sha256="2" * 64,
        licence=None,
        consent=None,
        faces=None,
        metadata={"caption_source": "chat:qwen3-omni"},
    )
    unhashed = replace(
        GOOD,
        id="unhashed",
        source="u.mp4",
        source_sha256=None,
        consent=None,
        metadata={},
        captions=(TimedCaption(duration_us=HOUR_US, text=" "),),
    )
    folder = dataset(tmp_path / "data", GOOD, bare, unhashed)
    found = audit(folder)
    assert found.sources_without_licence == ("phone/b.mp4",)
    assert found.faces_unknown == ("bare",)
    assert found.without_consent == ("bare", "unhashed")
    assert found.without_hash == ("unhashed",)
    assert found.without_caption == ("unhashed",)
    assert found.captions == {"chat:qwen3-omni": 1, "human": 1, "unknown": 1}
    told = shown(found)
    for line in (
        "a licence: 1 of 3 clips have none, of the sources phone/b.mp4",
        "nobody looked in 1 of 3 clips: phone/b.mp4 (1 clip)",
        "none is noted for 2 clips where faces are seen or may be: phone/b.mp4 (1 clip), u.mp4 (1 clip)",
        "hashes of sources: 1 clips have none",
        "an exclusion list: none was checked; give one with --exclude",
        "those of 1 clips say nothing: u.mp4 (1 clip)",
        "the origin of captions: it is not noted for 1 clips",
    ):
        assert line in told
    assert len(found.missing) == 7


def test_clips_are_named_by_their_files(tmp_path: Path) -> None:
    long = "holiday of the year/" + "a rather long name " * 6 + ".mp4"
    sources = [long] * 3 + [f"{n}.mp4" for n in range(6)] * 2
    clips = [
        replace(GOOD, id=f"{n:02}", source=source, consent=None) for n, source in enumerate(sources)
    ]
    found = audit(dataset(tmp_path / "data", *clips))
    assert len(found.without_consent) == 15
    shorter = ", ".join(f"{n}.mp4 (2 clips)" for n in range(4))
    assert f"may be: {long} (3 clips), {shorter} and 2 more\n" in shown(found)


def test_hits_of_an_exclusion_list(tmp_path: Path) -> None:
    others = [replace(GOOD, id=f"c{n}", source_sha256=str(n) * 64) for n in range(2, 5)]
    folder = dataset(tmp_path / "data", GOOD, *others, settings={"excluded": "f" * 64})
    assert audit(folder).missing == ()
    assert audit(folder).excluded_when_packed == "f" * 64
    listed = exclusion(tmp_path, "1" * 64, "c3  # asked for by mail")
    found = audit(folder, listed)
    assert found.exclusions is not None
    assert found.exclusions.hits == ("c3", "good")
    assert f"2 clips are on {listed}: c3, good" in shown(found)
    with pytest.raises(DatasetError, match="cannot be read"):
        audit(folder, tmp_path / "nowhere.txt")


def test_a_run_counts_persons_captions_as_its_dataset_would(tmp_path: Path) -> None:
    rows = [
        {
            "id": name,
            "source": "a.mp4",
            "source_sha256": "1" * 64,
            "duration_us": HOUR_US,
            "captions": json.dumps([caption().to_dict()]),
            "caption_source": "template",
        }
        for name in ("one", "two")
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / MANIFEST)
    annotations.write(tmp_path, "two", [caption("A person says.")], "")
    found = audit(tmp_path)
    assert (found.kind, found.clips, found.sources) == ("run", 2, 1)
    assert found.captions == {"human": 1, "template": 1}
    assert found.licences == found.faces == found.consents == {"unknown": 2}
    assert len(found.missing) == 4
    pq.write_table(pa.table({"id": ["one"], "source": ["a"]}), tmp_path / MANIFEST)
    bare = audit(tmp_path)
    assert bare.without_caption == bare.without_hash == ("one",)


def test_neither_dataset_nor_run(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds neither dataset.json nor manifest.parquet"):
        audit(tmp_path)
