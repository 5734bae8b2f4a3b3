"""Ablations: variants differ in what they say, rows are kept once, figures and intervals are right."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from avgen_eval.ablations import rows as rows_module
from avgen_eval.ablations.data import SHIPPED, prepare_codecs, prepare_data
from avgen_eval.ablations.figures import COSTS, FIGURES, clip_values, estimate, new_run_interval
from avgen_eval.ablations.measuring import block_costs, measure
from avgen_eval.ablations.page import table, write_page
from avgen_eval.ablations.rows import read_rows
from avgen_eval.ablations.study import find_question, find_variant, studies
from avgen_eval.codec import added_flicker
from avgen_eval.known import get_world
from avgen_eval.roundtrip import load_codecs

from avgen.checkpoint import AUDIO_FILE
from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.video_vae import VideoVAE
from avgen.data.schema import read_info
from avgen.model.bundle import Network
from avgen.model.config import nano, preset
from avgen.model.cost import Step, step_flops
from avgen.pipeline import AVPipeline

PAGE = Path(__file__).parent.parent.parent / "docs" / "ablations.md"


def row(variant: str, seed: int, matched: list[int], total: int = 4) -> dict:
    counts = [[m, total, total] for m in matched]
    values = [m / total for m in matched]
    fields = dict.fromkeys(("sound", "picture", "agree"), counts)
    fields |= dict.fromkeys(("pad", "objects", "timbre", "mel_db", "spread_db"), values)
    ways = dict.fromkeys(("timed", "untimed", "v2a", "a2v"), fields)
    key = find_variant(variant).key
    return {"variant": variant, "seed": seed, "key": key, "ways": ways, "costs": {"seconds": 0.5}}


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_every_question_names_variants_and_figures_that_are_there():
    variants, questions = studies()
    for question in questions.values():
        assert set(question.variants) <= set(variants)
        assert question.baseline in question.variants
        assert set(question.figures) <= set(FIGURES) | set(COSTS)
        assert question.plot in question.figures
        assert f"<!-- {question.name}: begin -->" in PAGE.read_text()


def test_variants_of_a_setting_differ_from_it_in_what_they_name_only():
    baseline, variants = find_variant("baseline"), studies()[0]
    keys = [variant.key for variant in variants.values()]
    assert len(set(keys)) == len(keys)
    one_way, design = find_variant("video_reads"), find_variant("untold")
    assert design.training is not None
    config = {**design.training["config"], "reads": {"audio": []}}
    assert one_way.training == {**design.training, "config": config}
    assert (one_way.sampling, one_way.clips) == (design.sampling, design.clips)
    assert design.sampling == baseline.sampling
    assert find_variant("snapped").weights == "dequantised"
    assert find_variant("snapped").training is None
    assert find_variant("guide_none").sampling["guidance"] == {"text": 1.0}


def test_the_key_changes_with_what_figures_depend_on():
    baseline = find_variant("baseline")
    assert replace(baseline, label="other words").key == baseline.key
    assert replace(baseline, clips=31).key != baseline.key
    assert baseline.training is not None
    assert replace(baseline, training={**baseline.training, "steps": 1}).key != baseline.key
    assert (
        replace(baseline, training={**baseline.training, "start": "discrete"}).key != baseline.key
    )


def test_the_key_changes_with_the_weights_that_ship(tmp_path: Path):
    shutil.copytree(SHIPPED, tmp_path / "tiny")
    own = replace(find_variant("guide_none"), weights=str(tmp_path / "tiny"))
    assert own.key == find_variant("guide_none").key
    codec = SeanetAudioCodec.from_file(SHIPPED / AUDIO_FILE)
    (tmp_path / "other").mkdir()
    codec.latent_mean += 1
    codec.save(tmp_path / "other" / AUDIO_FILE)
    assert replace(own, weights=str(tmp_path / "other")).key != own.key


def test_rows_of_other_definitions_are_left_out_and_broken_lines_told(tmp_path: Path):
    path = write_rows(tmp_path / "rows.jsonl", [row("baseline", 0, [1, 2])])
    assert [r["seed"] for r in read_rows(path)] == [0]
    write_rows(path, [row("baseline", 0, [1, 2]) | {"key": "of another setting"}])
    assert read_rows(path) == []
    path.write_text('{"variant": "nobody", "key": "x"}\n')
    with pytest.raises(ValueError, match="line 1: variant 'nobody' is unknown"):
        read_rows(path)


def test_runs_that_have_a_row_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_rows(tmp_path / "rows.jsonl", [row("baseline", 0, [1, 2])])
    done: list[tuple[str, int]] = []

    def made(variant, seed, work):
        done.append((variant.name, seed))
        return row(variant.name, seed, [3, 4])

    monkeypatch.setattr(rows_module, "_row", made)
    for _ in range(2):
        rows_module.run(["baseline", "written"], [0, 1], tmp_path, path)
    assert done == [("written", 0), ("baseline", 1), ("written", 1)]
    assert len(read_rows(path)) == 4


def test_training_goes_on_from_the_weights_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    starts: dict[str, Path | None] = {}

    def trained(variant, seed, data, start):
        starts[f"{variant.name}-{seed}"] = start
        return Network(preset("nano", video_channels=2, audio_channels=2)), {"loss": 1.0}

    monkeypatch.setattr(rows_module, "train", trained)
    monkeypatch.setattr(rows_module, "prepare_data", lambda variant, work: work)
    for _ in range(2):
        rows_module._trained(find_variant("no_times"), 1, tmp_path)
    assert list(starts) == ["stem-0", "no_times-1"]
    assert starts["stem-0"] is None
    assert str(starts["no_times-1"]).startswith(str(tmp_path / "weights" / "stem-"))


def test_time_strides_are_compared_at_equal_operations():
    spent = {}
    for name, latents in (("time_1", 25), ("time_4", 7), ("time_8", 4)):
        training = find_variant(name).training
        assert training is not None
        step = Step(clips=16, tokens={"video": 16 * latents, "audio": 25}, text_tokens=100)
        spent[name] = training["steps"] * step_flops(nano(), step).total
    assert max(spent.values()) < 1.01 * min(spent.values())


def test_an_f1_is_of_the_sums_and_its_interval_covers_both_seeds():
    pair = [row("baseline", 0, [4, 4, 0, 2]), row("baseline", 1, [1, 1, 2, 2])]
    values = clip_values(pair, FIGURES["sound_f1"])
    found = estimate(values)
    assert found.value == pytest.approx(2 * 16 / (2 * 8 * 4))
    assert found.low < 6 / 16 + 0.05
    assert found.high > 10 / 16 - 0.05


def test_intervals_hold_the_truth_as_often_as_they_say():
    generator, inside = np.random.default_rng(1), 0
    for _ in range(200):
        draws = generator.binomial(4, 0.6, size=(1, 32))
        values = np.stack([draws, np.full_like(draws, 4)], axis=-1).astype(float)
        found = estimate(values)
        inside += found.low <= 0.6 <= found.high
    assert 0.88 <= inside / 200 <= 0.99


def test_a_difference_is_shown_only_where_there_is_one():
    generator = np.random.default_rng(2)
    of = [generator.integers(0, 5, size=(2, 32)) for _ in range(2)]
    same, other = (np.stack([d, np.full_like(d, 4)], axis=-1).astype(float) for d in of)
    assert estimate(same, same).value == 0
    assert not estimate(same, other).excludes_zero
    better = np.minimum(same + np.array([2.0, 0.0]), 4)
    assert estimate(better, same).excludes_zero


def test_another_seed_is_expected_within_students_t():
    values = np.array([[[x, 1.0]] for x in (0.5, 0.6, 0.7)])
    low, high = new_run_interval(values) or (0, 0)
    assert (low, high) == (pytest.approx(0.6 - 0.4968, abs=1e-3), pytest.approx(1.0968, abs=1e-3))
    assert new_run_interval(values[:2]) is None


def test_a_page_is_written_from_rows(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    found = [row("baseline", s, [3, 4, 3, 4]) for s in range(3)]
    found += [row("no_times", s, [0, 1, 0, 1]) for s in range(2)]
    found += [row("written", 0, [0, 1, 0, 1])]
    write_page(write_rows(tmp_path / "rows.jsonl", found), page)
    text = page.read_text()
    assert "| interval RoPE (`baseline`, baseline) | 3 | 0.88 (" in text
    assert "| no times (`no_times`) | 2 | **0.12 (" in text
    assert (
        "| written into the text (`written`) | 1 | 0.12 (" in text
    )  # one seed shows no difference
    assert "Another seed should land here (picture F1): `baseline`" in text
    picture = (tmp_path / "ablations" / "timed_text.svg").read_text()
    assert picture.count("<circle") == 3 + 6
    assert "<!-- noise: begin -->\nNot measured yet.\n<!-- noise: end -->" in text
    assert not (tmp_path / "ablations" / "noise.svg").exists()
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="timed_text: begin"):
        write_page(tmp_path / "rows.jsonl", page)


def test_a_table_without_a_variant_leaves_it_out():
    content = table(find_question("noise"), {"untold": [row("untold", 0, [1, 2])]})
    assert "sigma_mixed" not in content


def test_continuous_codecs_are_others(tmp_path: Path):
    own, continuous = (
        load_codecs(str(prepare_codecs(find_variant(name), tmp_path)))
        for name in ("dequantised", "continuous")
    )
    assert own.audio.identity != continuous.audio.identity
    assert own.video.identity == continuous.video.identity


def test_latents_of_another_kl_weight_have_a_codec_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[list[str]] = []
    monkeypatch.setattr("avgen.cli.main", asked.append)
    folders = [prepare_codecs(find_variant(name), tmp_path).name for name in ("time_4", "kl_high")]
    assert folders == ["time_4", "time_4_kl_0.002"]
    option = "--model.init_args.kl_weight"
    assert option not in asked[0]
    assert asked[1][asked[1].index(option) + 1] == "0.002"


@pytest.mark.filterwarnings("ignore")
def test_codecs_and_data_are_made_once(tmp_path: Path):
    variant = find_variant("time_8")
    assert variant.training is not None
    training = {**variant.training, "vae_steps": 1}
    short = replace(variant, training=training, train_clips=2, seconds=1.0)
    data = prepare_data(short, tmp_path)
    info = read_info(data)
    assert info.num_examples == 2
    codec = load_codecs(str(tmp_path / "codecs" / "time_8")).video
    assert isinstance(codec, VideoVAE)
    assert codec.time_stride == 8
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.*"))]
    assert prepare_data(short, tmp_path) == data
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.*"))] == times
    costs = block_costs(codec, get_world("drums").render(0, duration=1.0).clip)
    assert (costs["block_ms"], costs["latents_per_second"]) == (320, 200)


@pytest.mark.parametrize("ways", [("timed", "again", "codec"), ("untimed", "v2a", "a2v")])
def test_a_measurement_holds_what_every_figure_reads(ways: tuple[str, ...]):
    variant = replace(find_variant("guide_none"), clips=2, ways=ways, sampling={"steps": 1})
    found = measure(AVPipeline.from_pretrained("tiny"), variant, 0)
    kinds = [kind for kind in FIGURES.values() if kind.way in ways]
    assert all(np.isfinite(clip_values([found], kind)).all() for kind in kinds)
    assert set(found["costs"]) == set(COSTS)
    if "codec" in ways:
        kept = clip_values([found], FIGURES["codec_psnr"])[0, :, 0]
        assert (kept > 20).all()
        assert (kept > np.array(found["ways"]["timed"]["psnr_db"])).all()


def test_flicker_is_the_change_that_the_original_has_not():
    frames = np.random.default_rng(0).integers(0, 200, size=(5, 8, 8, 3)).astype(np.uint8)
    assert added_flicker(frames, frames) == 0
    assert added_flicker(frames, frames + 7) == 0
    blinking = frames + np.array([0, 10, 0, 10, 0], np.uint8)[:, None, None, None]
    assert added_flicker(frames, blinking) == 10
