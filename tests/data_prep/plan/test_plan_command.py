"""`avgen plan --data` and the benchmark of stages, on films that go through the real stages."""

import json
import shutil
from pathlib import Path

import av
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from avgen_data_prep.captioning.captioner import CaptionDraft
from avgen_data_prep.pipeline.executors import InProcess
from avgen_data_prep.pipeline.manifest import MANIFEST
from avgen_data_prep.pipeline.runner import Run
from avgen_data_prep.pipeline.spec import PipelineError, load
from avgen_data_prep.pipeline.speed import main as speed
from avgen_data_prep.pipeline.speed import measure, render_films
from avgen_data_prep.plan.measured import measured_corpus, measured_tokens
from avgen_data_prep.plan.rates import read_rates
from avgen_data_prep.plan.result import Plan
from plan_inputs import CORPUS

from avgen.cli import main

STAGES = ("probe", "shots", "source_sync", "cut", "captions")
PIPELINE = "stages: [probe, shots, source_sync, {cut: {seconds_max: 2}}, captions]"


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    """Two films of three shots of a second, and a file that is none."""
    folder = tmp_path_factory.mktemp("footage")
    render_films(folder, ["bounce", "drums"], count=2, seconds=1.2, size=64)
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 500)
    return folder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pipeline") / "short.yaml"
    path.write_text(PIPELINE)
    return path


@pytest.fixture(scope="module")
def work(footage, pipeline, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "work"
    Run(sources=footage, folder=folder, pipeline=load(pipeline)).execute(InProcess())
    return folder


def test_a_run_tells_its_corpus(work, footage):
    corpus = measured_corpus(work)
    rows = pq.ParquetFile(work / MANIFEST).read().to_pylist()
    assert corpus.hours == pytest.approx(2 * 3 * 1.2 / 3600, rel=0.01)
    assert corpus.num_sources == 3
    assert corpus.source_bytes == sum(path.stat().st_size for path in footage.iterdir())
    assert corpus.source_pixel_rate == pytest.approx(64 * 64 * 25, rel=0.01)
    assert corpus.num_clips == len(rows) > 0
    assert corpus.clip_hours == pytest.approx(sum(row["duration_us"] for row in rows) / 3.6e9)
    files = [path.stat().st_size for path in (work / "clips").rglob("*.mp4")]
    assert corpus.clip_bytes == pytest.approx(sum(files))
    assert corpus.captions_per_clip >= 1
    assert "3 files, 2 with clips" in corpus.sources_from


def test_a_source_without_a_duration_is_as_long_as_its_shots(
    footage, pipeline, work, tmp_path, capsys
):
    folder, run = tmp_path / "streams", tmp_path / "run"
    folder.mkdir()
    for number, film in enumerate(sorted(footage.glob("*.mp4"))):
        if film.name == "broken.mp4":
            continue
        with av.open(str(film)) as source, av.open(str(folder / f"{number}.ts"), "w") as out:
            streams = {s: out.add_stream_from_template(s) for s in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream]
                    out.mux(packet)
    Run(sources=folder, folder=run, pipeline=load(pipeline)).execute(InProcess())
    assert main(["plan", "--data", str(run)]) == 0
    assert "2 files, 2 with clips)" in " ".join(capsys.readouterr().out.split())
    known = measured_corpus(work)
    assert measured_corpus(run).hours == pytest.approx(known.hours, rel=0.02)
    assert measured_corpus(run).source_pixel_rate == pytest.approx(
        known.source_pixel_rate, rel=0.02
    )

    table = pq.ParquetFile(run / MANIFEST).read()
    first = table["source_sha256"][0].as_py()
    shots = [None if row["source_sha256"] == first else row["shot_us"] for row in table.to_pylist()]
    at = table.column_names.index("shot_us")
    half = table.set_column(at, "shot_us", pa.array(shots, table["shot_us"].type))
    pq.write_table(half, run / MANIFEST)
    corpus = measured_corpus(run)
    assert corpus.hours == pytest.approx(known.hours / 2, rel=0.02)
    assert "2 files, 1 with clips; 1 of unknown length left out" in corpus.sources_from
    pq.write_table(table.drop_columns(["shot_us"]), run / MANIFEST)
    assert main(["plan", "--data", str(run)]) == 1
    assert "tells the length of no source; run a pipeline with" in capsys.readouterr().err


def test_the_rates_of_a_run_give_back_its_seconds(work):
    rates, corpus = read_rates(work), measured_corpus(work)
    told = json.loads((work / "rates.json").read_text())
    assert set(rates.stages) == set(STAGES)
    assert (rates.stages["cut"].of, rates.stages["captions"].of) == ("sources", "clips")
    captions = rates.stages["captions"]
    assert captions.hours(corpus).mid * 3600 == pytest.approx(told["captions"]["seconds"])
    ten = corpus.scaled(10 * corpus.hours)
    assert captions.hours(ten).mid == pytest.approx(10 * captions.hours(corpus).mid)


def test_the_command_plans_a_run(work, tmp_path, capsys):
    out = tmp_path / "plan.json"
    argv = ["plan", "--data", str(work), "--hours", "1000", "--deadline", "7", "--json", str(out)]
    argv += ["--captioner", "gemini-3.5-flash-lite", "--caption-tokens", "3000", "600"]
    assert main(argv) == 0
    text = " ".join(capsys.readouterr().out.split())
    plan = Plan.from_dict(json.loads(out.read_text()))
    parts = {line.part for line in plan.lines}
    assert parts == {"storage", "transfer", "work", "captions", "workers"}
    stages = [line.name for line in plan.lines if line.part == "work"]
    assert stages == [f"{name}, cpu-core" for name in STAGES]
    assert "USD" in text
    assert "to be checked: storage of 2026-11-22" in text
    assert plan.total.low > 0


def test_the_command_plans_a_description(work, tmp_path, capsys):
    path = tmp_path / "corpus.yaml"
    path.write_text(CORPUS)
    assert main(["plan", "--data", str(path), "--rates", str(work), "--transfer", "none"]) == 0
    out = capsys.readouterr().out
    assert "202 GB" in out  # 100 h of 2.025 GB
    assert "transfer" not in out
    assert main(["plan", "--data", str(path)]) == 1
    assert (
        "no measured rates: run `python -m avgen_data_prep.pipeline.speed"
        in capsys.readouterr().err
    )


def test_kinds_of_workers_need_rates_of_their_own(work, capsys):
    assert main(["plan", "--data", str(work), "--workers-kind", "gpu-h100"]) == 1
    assert "no rates of gpu-h100: on such a worker run" in capsys.readouterr().err
    argv = ["plan", "--data", str(work), "--rates", f"gpu-h100={work}"]
    assert main([*argv, "--deadline", "1"]) == 0
    assert "gpu-h100" in capsys.readouterr().out


def test_a_run_without_rates_says_what_to_run(work, tmp_path, capsys):
    copy = shutil.copytree(work, tmp_path / "copy")
    rates = json.loads((copy / "rates.json").read_text())
    del rates["captions"]
    (copy / "rates.json").write_text(json.dumps(rates))
    assert main(["plan", "--data", str(copy)]) == 1
    told = capsys.readouterr().err
    assert f"no rate of the stage captions; run `avgen prep run FOLDER {copy}` to the end" in told
    assert "python -m avgen_data_prep.pipeline.speed" in told
    (copy / "rates.json").unlink()
    assert main(["plan", "--data", str(copy)]) == 1
    assert "rates.json: no rates can be read" in capsys.readouterr().err


def test_what_is_no_run_is_refused(footage, tmp_path, capsys):
    assert main(["plan", "--data", str(footage)]) == 1
    assert (
        "holds no manifest.parquet; make one of some of the footage with" in capsys.readouterr().err
    )
    assert main(["plan", "--data", str(tmp_path / "none")]) == 1
    assert "none: no such file; give the folder of a run, or a YAML file" in capsys.readouterr().err
    rows = pa.table({"id": ["a"], "duration_us": [1]})
    pq.write_table(rows, tmp_path / MANIFEST)
    with pytest.raises(ValueError, match=r"lacks the columns .*source_duration_us.* probe and cut"):
        measured_corpus(tmp_path)


def test_tokens_are_those_that_the_server_counted(work, tmp_path):
    assert measured_tokens(work) is None  # the template asks nobody

    def told(given: int, taken: int) -> dict:
        usage = {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": given + taken}
        return {"original": CaptionDraft(full="A ball falls.", usage=usage).to_dict()}

    provenance = [
        told(1000, 100),
        {"original": {"usage": {}}, "rejected": told(2000, 300)},
        {"captioner": "sidecar", "added": told(3000, 200)},
        {"captioner": "sidecar"},
    ]
    column = [json.dumps(item) for item in provenance] + [None]
    pq.write_table(pa.table({"caption_provenance": column}), tmp_path / MANIFEST)
    tokens = measured_tokens(tmp_path)
    assert tokens is not None
    assert (tokens.input.mid, tokens.output.mid) == (2000, 200)
    assert tokens.input.low < 2000 < tokens.input.high
    assert "counted by the server on 3 clips" in tokens.rests_on


def test_the_benchmark_measures_stages_and_names_the_bottleneck(
    footage, pipeline, tmp_path, capsys
):
    path = tmp_path / "rates.json"
    assert speed([str(footage), "--pipeline", str(pipeline), "--json", str(path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    rates = read_rates(path)
    slowest = max(rates.stages, key=lambda name: rates.stages[name].seconds)
    assert f"bottleneck: {slowest}" in out
    assert "clips/s per core" in out
    assert rates.core_share is not None
    assert 0 < rates.core_share <= 1
    corpus = tmp_path / "corpus.yaml"
    corpus.write_text(CORPUS)
    assert main(["plan", "--data", str(corpus), "--rates", f"cpu-core={path}"]) == 0
    assert "measured 20" in capsys.readouterr().out


def test_the_benchmark_of_nothing_says_why(pipeline, tmp_path):
    folder = tmp_path / "footage"
    folder.mkdir()
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 500)
    with pytest.raises(PipelineError, match=r"no clip comes of it; broken.mp4: "):
        measure(folder, tmp_path / "work", load(pipeline))
    with pytest.raises(ValueError, match="'mars' is neither a folder nor a world of bounce, drums"):
        speed(["mars", "--pipeline", str(pipeline)])
