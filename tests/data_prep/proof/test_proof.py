"""The pipeline on films whose truth is known, held to the bars of a proof; and a proof that can fail."""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from avgen_data_prep.pipeline.executors import InProcess
from avgen_data_prep.pipeline.manifest import FAILED, MANIFEST
from avgen_data_prep.pipeline.runner import Run
from avgen_data_prep.pipeline.spec import parse
from avgen_data_prep.proof.__main__ import main
from avgen_data_prep.proof.corpus import Corpus, make_corpus
from avgen_data_prep.proof.editing import edit
from avgen_data_prep.proof.films import FORMATS, plan_film
from avgen_data_prep.proof.kill import SAME, kill_and_resume
from avgen_data_prep.proof.score import Score, score_run
from avgen_data_prep.worlds import WORLDS

# What is compared with the truth; the rest of the default pipeline measures and has tests of its own.
PIPELINE = "stages: [probe, shots, source_sync, cut, captions]\n"
FILMS, SECONDS = 12, (8.0, 11.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Path]:
    out = tmp_path_factory.mktemp("proof")
    corpus = make_corpus(out, films=FILMS, damaged=6, seconds=SECONDS)
    work = out / "work"
    Run(sources=corpus.folder, folder=work, pipeline=parse(PIPELINE)).execute(InProcess())
    return corpus, work


def test_the_pipeline_finds_what_is_true(run: tuple[Corpus, Path]) -> None:
    score = score_run(*run)
    assert score.short() == []
    assert score.counts["films"] == FILMS
    assert score.counts["damaged"] == 6
    assert score.counts["copies"] == 2
    assert min(score.counts[name] for name in ("cuts", "clips", "events")) >= FILMS
    assert len(score.offset_errors_ms) >= 1


def test_films_differ_in_all_that_matters() -> None:
    films = [plan_film(number) for number in range(60)]
    assert len({film.name for film in films}) == 60
    assert {Path(film.name).suffix[1:] for film in films} == {name for name, _, _ in FORMATS}
    assert {film.edits["layout"] for film in films} == {"mono", "stereo", "5.1"}
    for name in ("drop", "jitter", "video_at", "sound_at"):
        assert any(film.edits.get(name) for film in films)
        assert not all(film.edits.get(name) for film in films)
    assert any(film.edits["late_ms"] > 0 for film in films)
    assert any(film.edits["late_ms"] < 0 for film in films)
    assert plan_film(7) == plan_film(7)
    lengths = [sum(seconds for _, _, seconds in film.shots) for film in films]
    assert 9 < min(lengths) < 15
    assert 55 < max(lengths) <= 60


def tampered(run: tuple[Corpus, Path], folder: Path, change) -> Score:
    """The score after ``change`` of the rows of both tables."""
    corpus, work = run
    shutil.copytree(work / "clips", folder / "clips")
    tables = [pq.ParquetFile(work / name).read() for name in (MANIFEST, FAILED)]
    rows = [table.to_pylist() for table in tables]
    change(*rows)
    for name, table, changed in zip((MANIFEST, FAILED), tables, rows, strict=True):
        pq.write_table(pa.Table.from_pylist(changed, schema=table.schema), folder / name)
    return score_run(corpus, folder)


def lose_a_film(clips: list[dict], failed: list[dict]) -> None:
    clips[:] = [clip for clip in clips if clip["source"] != "film-0003.webm"]


def double_a_clip(clips: list[dict], failed: list[dict]) -> None:
    clips.append(clips[0])


def move_the_cuts(clips: list[dict], failed: list[dict]) -> None:
    for clip in clips:
        first, *inner, end = clip["shot_us"]
        clip["shot_us"] = [first, *(us + 90_000 for us in inner), end]


def forget_the_captions(clips: list[dict], failed: list[dict]) -> None:
    for clip in clips:
        clip["captions"] = json.dumps([json.loads(clip["captions"])[0] | {"events": []}])


def shift_the_sound(clips: list[dict], failed: list[dict]) -> None:
    for clip in clips:
        clip["sound_shift_us"] += 12_000 if clip["sound_shift_us"] else 0


def forget_the_failures(clips: list[dict], failed: list[dict]) -> None:
    failed.clear()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lose_a_film, ["lost: no clip of film-0003.webm"]),
        (double_a_clip, ["doubled: clip "]),
        (move_the_cuts, ["shot_f1 is 0"]),
        (forget_the_captions, ["event_recall is 0, the bar is 0.95"]),
        (shift_the_sound, ["offset_error_ms is 1"]),
        (forget_the_failures, ["copies_found is 0", "damaged_reported is 0", "lost: nothing is"]),
    ],
)
def test_a_run_that_is_wrong_falls_short(
    run: tuple[Corpus, Path], tmp_path: Path, change, told: list[str]
) -> None:
    short = tampered(run, tmp_path, change).short()
    for words in told:
        assert any(line.startswith(words) for line in short), short


def test_the_command_writes_figures_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(PIPELINE)
    arguments = ["--out", str(tmp_path), "--sources", "1", "--damaged", "3"]
    arguments += ["--seconds", "4", "5", "--pipeline", str(tmp_path / "p.yaml")]
    status = main(arguments)
    figures = json.loads((tmp_path / "proof.json").read_text())
    assert status == bool(figures["short"])
    assert figures["score"]["counts"]["films"] == 1
    assert figures["environment"]["libraries"]["av"]
    film = tmp_path / "films" / plan_film(0).name
    changed = film.stat().st_mtime_ns
    assert main(arguments) == status
    assert film.stat().st_mtime_ns == changed


@pytest.mark.slow
def test_killed_twice_the_manifest_is_the_same(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, films=4, damaged=3, seconds=(3.0, 4.0))
    (tmp_path / "p.yaml").write_text(PIPELINE)
    found = kill_and_resume(
        corpus.folder,
        tmp_path,
        str(tmp_path / "p.yaml"),
        kills=2,
        executors=["process"],
        two_nodes=False,
    )
    assert found == {"process": SAME}


@pytest.mark.skipif(not hasattr(os, "SCHED_OTHER"), reason="no scheduling classes here")
def test_writing_av1_leaves_the_process_an_ordinary_one(tmp_path: Path) -> None:
    example = WORLDS["drums"].render(0, duration=0.5)
    edit(tmp_path / "a.mkv", [example], video_codec="libsvtav1", audio_codec="flac")
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
