"""Plans against figures worked out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from avgen_data_prep.plan.corpus import load_corpus
from avgen_data_prep.plan.estimate import Request, make_plan
from avgen_data_prep.plan.measured import CaptionTokens
from avgen_data_prep.plan.prices import load_prices
from avgen_data_prep.plan.ranges import Range, mean_of
from avgen_data_prep.plan.rates import Rates, read_rates
from avgen_data_prep.plan.result import Plan
from avgen_data_prep.plan.storage import AudioLatents, TextFeatures, VideoLatents
from plan_inputs import CORPUS, PRICES, corpus, prices, rates, stage_rate

from avgen.data.quantise import stored


def request(folder, **changes) -> Request:
    plain = Request(
        corpus=corpus(folder),
        prices=prices(folder),
        rates={"cpu-core": rates(shots=stage_rate())},
    )
    return replace(plain, **changes)


def lines(plan: Plan) -> dict:
    return {f"{line.part}: {line.name}": line for line in plan.lines}


def test_an_hour_of_720p_and_its_latents(tmp_path):
    hour = corpus(tmp_path).scaled(1.0)
    assert hour.source_bytes == pytest.approx(2.025e9)  # 4.5e6 / 8 * 3600
    shapes = {
        "8x8x4c16:bfloat16": 160 * 90 * 16 * 2 * 6 * 3600,  # 9.95 GB
        "32x32x8c128:bfloat16": 40 * 22 * 128 * 2 * 3 * 3600,  # 2.43 GB
        "16x16x4c48:bfloat16": 80 * 45 * 48 * 2 * 6 * 3600,
    }
    for text, expected in shapes.items():
        found = sum(VideoLatents.parse(text).bytes_of(clips) for clips in hour.clips)
        assert found == pytest.approx(expected, rel=1e-9)
    assert 9.95e9 < shapes["8x8x4c16:bfloat16"] < 9.96e9
    captions = hour.num_clips * hour.captions_per_clip
    assert captions == pytest.approx(450)
    features = TextFeatures.parse("512x4096:bfloat16").bytes_of(captions)
    assert features == pytest.approx(450 * 512 * 4096 * 2)  # 1.89 GB
    audio = sum(AudioLatents.parse("25c32q8:float16").bytes_of(clips) for clips in hour.clips)
    assert audio == pytest.approx(3600 * 25 * (32 * 2 + 8 * 2))


@pytest.mark.parametrize("dtype", ["float16", "int8", "float8"])
def test_latents_take_as_many_bytes_as_a_dataset_writes(tmp_path, dtype):
    text = CORPUS.replace("seconds: 8", "seconds: 2").replace("720", "64").replace("1280", "96")
    [clips] = corpus(tmp_path, text).clips
    one = replace(clips, count=1, num_frames=49)
    random = np.random.default_rng(0)
    latents = {
        "video": random.normal(size=(16, 13, 8, 12)),
        "audio": random.normal(size=(32, 50)),
        "codes": random.integers(0, 512, (8, 50)),
    }
    written = stored(latents, dtype)
    size = sum(tensor.numel() * tensor.element_size() for tensor in written.values())
    video = VideoLatents.parse(f"8x8x4c16:{dtype}").bytes_of(one)
    assert video + AudioLatents.parse(f"25c32q8:{dtype}").bytes_of(one) == size


def test_lengths_of_clips_share_the_footage(tmp_path):
    text = CORPUS.replace("seconds: 8,", "seconds: {4: 0.25, 8: 0.75}, kept: 0.5, sound: false,")
    short, long = corpus(tmp_path, text).clips
    assert short.count * 3 == pytest.approx(long.count)
    assert short.count * 4 + long.count * 8 == pytest.approx(100 * 0.5 * 3600)
    assert (short.num_frames, long.num_frames) == (96, 192)
    assert AudioLatents.parse("25c32:float16").bytes_of(long) == 0


def test_every_cost_by_hand(tmp_path):
    tokens = CaptionTokens(input=Range(1000, 2000, 3000), output=Range.exactly(500), rests_on="x")
    plan = make_plan(
        request(
            tmp_path,
            video=VideoLatents.parse("8x8x4c16:bfloat16"),
            months=3.0,
            transfers={"cross_region": 2.0},
            captioner="model",
            tokens=tokens,
        )
    )
    found = lines(plan)
    latents, clips = 0.9953280, 0.2025  # TB of 100 h
    assert found["storage: sources"].cost.mid == pytest.approx(clips * 20 * 3)
    assert found["storage: video latents"].cost.mid == pytest.approx(latents * 20 * 3)
    sent = found["transfer: dataset, cross_region"]
    assert sent.amount.mid == pytest.approx((latents + clips) * 2e12)
    assert sent.cost.to_list() == pytest.approx([(latents + clips) * 2 * p for p in (10, 20, 30)])
    asked = found["captions: model, input"]  # 45,000 clips
    assert asked.amount.to_list() == pytest.approx([45e6, 90e6, 135e6])
    assert asked.cost.to_list() == pytest.approx([22.5, 45, 67.5])
    assert found["captions: model, output"].cost.mid == pytest.approx(45_000 * 500 / 1e6 * 4)
    work = found["work: shots, cpu-core"]
    assert work.amount.mid == pytest.approx(100)
    assert work.cost.mid == pytest.approx(5)
    assert plan.total.mid == pytest.approx(
        sum(line.cost.mid for line in plan.lines if line.cost is not None)
    )
    assert plan.total.low < plan.total.mid < plan.total.high


def test_every_line_says_what_it_rests_on(tmp_path):
    plan = make_plan(request(tmp_path, transfers={"cross_region": 1.0}, deadline_days=2.0))
    for line in plan.lines:
        kinds = ("given in corpus.yaml", "measured 2026-11-22 in rates.json", "(given)")
        assert any(kind in line.rests_on for kind in kinds), line
        assert line.cost is None or "price of 2026-10-0" in line.rests_on
    assert (
        "price of 2026-10-02, to be checked"
        in lines(plan)["transfer: dataset, cross_region"].rests_on
    )
    assert [note for note in plan.notes if "a rumour" in note]
    assert not [note for note in plan.notes if "an offer" in note]


def test_the_interval_of_a_mean_holds_it_as_often_as_it_says():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        interval = mean_of(float(random.exponential(3.0, 7).sum()), 7)
        held += interval.low <= 3.0 <= interval.high
    assert 0.935 < held / 2000 < 0.965
    few, many = mean_of(3.0 * 4, 4), mean_of(3.0 * 400, 400)
    assert few.mid == many.mid == 3.0
    assert few.low < many.low < 3 < many.high < few.high
    with pytest.raises(ValueError, match="0 measurements have no mean"):
        mean_of(0.0, 0)


def test_other_pictures_widen_the_hours(tmp_path):
    small = stage_rate(pixel_rate=1280 * 720 * 24 / 9)
    plan = make_plan(request(tmp_path, rates={"cpu-core": rates(same=stage_rate(), small=small)}))
    same, wide = (lines(plan)[f"work: {name}, cpu-core"] for name in ("same", "small"))
    assert wide.amount.low == pytest.approx(same.amount.low)
    assert wide.amount.high == pytest.approx(9 * same.amount.high)
    assert wide.amount.mid == pytest.approx(3 * same.amount.mid)
    assert "to 9 times the time" in wide.rests_on
    assert "times the time" not in same.rests_on


def test_a_stage_goes_to_the_kind_that_does_it_for_less(tmp_path):
    fast = stage_rate(seconds=3200 / 50)  # 40 times as dear: worth it
    slow = stage_rate(seconds=3200 / 30)  # not worth it
    cores = rates(shots=stage_rate(), tags=stage_rate(), hash=stage_rate())
    plan = make_plan(
        request(tmp_path, rates={"cpu-core": cores, "gpu-x": rates(shots=fast, tags=slow)})
    )
    names = [line.name for line in plan.lines if line.part == "work"]
    assert names == ["shots, gpu-x", "tags, cpu-core", "hash, cpu-core"]
    days = {line.name: line.amount.mid for line in plan.lines if line.part == "workers"}
    assert days == {"one gpu-x": pytest.approx(2 / 24), "one cpu-core": pytest.approx(200 / 24)}
    assert any("at the same time" in note for note in plan.notes)


def test_fewer_days_never_need_fewer_workers(tmp_path):
    needed = []
    for days in (0.2, 0.5, 1.0, 4.0, 5.0, 100.0):
        plan = make_plan(request(tmp_path, deadline_days=days))
        [line] = [line for line in plan.lines if line.part == "workers"]
        needed.append(line.amount.mid)
        assert line.amount.low <= line.amount.mid <= line.amount.high
        assert line.amount.mid * days * 24 >= 100 > (line.amount.mid - 1) * days * 24
    assert needed == [21, 9, 5, 2, 1, 1]


def test_a_deadline_shorter_than_a_file_cannot_be_met(tmp_path):
    with pytest.raises(ValueError, match=r"a deadline of 0.01 days cannot be met: .* 200 files"):
        make_plan(request(tmp_path, deadline_days=0.01))
    plan = make_plan(request(tmp_path, deadline_days=0.0205))
    assert any("more workers than the 200 files" in note for note in plan.notes)


def test_few_rows_are_owned_up_to(tmp_path):
    few = {"cpu-core": rates(shots=stage_rate(rows=4, seconds=32.0))}
    assert "rates.json: a stage saw only 4 rows" in " ".join(
        make_plan(request(tmp_path, rates=few)).notes
    )


def test_scaling_keeps_the_kind(tmp_path):
    whole = corpus(tmp_path)
    more = whole.scaled(1000.0)
    assert more.source_bytes == pytest.approx(10 * whole.source_bytes)
    assert more.num_clips == pytest.approx(10 * whole.num_clips)
    assert more.clip_pixel_rate == pytest.approx(whole.clip_pixel_rate)
    assert more.sources_from == "given in corpus.yaml, taken 10 times for 1000 h"
    with pytest.raises(ValueError, match="-1 hours of footage cannot be planned"):
        whole.scaled(-1)


def test_a_plan_as_json_comes_back(tmp_path):
    plan = make_plan(request(tmp_path, transfers={"cross_region": 1.0}))
    data = json.loads(json.dumps(plan.to_dict()))
    assert Plan.from_dict(data) == plan
    assert data["total"] == plan.total.to_list()
    with pytest.raises(ValueError, match=r"schema 'avgen.plan/9' is not 'avgen.plan/1'"):
        Plan.from_dict({**data, "schema": "avgen.plan/9"})


def test_rates_as_json_come_back(tmp_path):
    measured = Rates(
        stages={"shots": stage_rate()},
        gathers={"near_duplicates": (7, 0.25), "semantic_duplicates": None},
        place=str(tmp_path / "rates.json"),
        date="2026-11-22",
        machine="a machine",
        core_share=0.5,
    )
    measured.save(tmp_path / "rates.json")
    assert read_rates(tmp_path / "rates.json") == measured
    plan, idle = (
        make_plan(request(tmp_path, rates={"cpu-core": told}))
        for told in (measured, replace(measured, core_share=1.0))
    )
    hours, most = (lines(p)["work: shots, cpu-core"].amount for p in (plan, idle))
    assert hours.to_list() == pytest.approx([most.low / 2, most.mid, most.high])
    notes = plan.notes
    assert any("had 50% of its core" in note for note in notes)
    assert not any("rows; with more" in note for note in notes)
    assert any(
        "near_duplicates compares all clips" in n and "0.25 s for 7 clips" in n for n in notes
    )
    (tmp_path / "rates.json").write_text("{}")
    with pytest.raises(ValueError, match=r"rates.json: no rates can be read .*pipeline.speed"):
        read_rates(tmp_path / "rates.json")


def test_a_missing_price_names_those_there_are(tmp_path):
    with pytest.raises(
        ValueError, match=r"no price 'transfer.moon' in .*prices.yaml; there are transfer.cross"
    ):
        make_plan(request(tmp_path, transfers={"moon": 1.0}))
    with pytest.raises(ValueError, match=r"no price 'worker.gpu-y'.*worker.cpu-core, worker.gpu-x"):
        make_plan(request(tmp_path, rates={"gpu-y": rates(shots=stage_rate())}))
    tokens = CaptionTokens(input=Range.exactly(1), output=Range.exactly(1), rests_on="x")
    with pytest.raises(ValueError, match=r"no price 'caption.other.input'"):
        make_plan(request(tmp_path, captioner="other", tokens=tokens))


def test_what_is_missing_is_asked_for(tmp_path):
    with pytest.raises(
        ValueError, match=r"no measured rates: run `python -m avgen_data_prep.pipeline.speed"
    ):
        make_plan(request(tmp_path, rates={}))
    with pytest.raises(
        ValueError, match=r"how many tokens model takes .*give --caption-tokens IN OUT"
    ):
        request(tmp_path, captioner="model")
    with pytest.raises(ValueError, match="deadline is 0; give a number above 0"):
        request(tmp_path, deadline_days=0.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "price: 20,",
            "price: [3, 2, 1],",
            "storage: range 3, 2, 1: give a low, a middle and a high",
        ),
        ("price: 20,", "price: much,", "storage costs 'much'; give a number, or"),
        ("date: 2026-10-02", "date: lately", "cross_region is of 'lately'; give a date such as"),
        ("checked: false, ", "", "cross_region has .* give checked, date, price, source"),
        ("currency: EUR", "currency: 3", "currency is 3; give a name such as USD"),
        ("prices:", "wishes:", "give a mapping with `currency` and a mapping `prices`"),
    ],
)
def test_wrong_prices_are_refused(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message):
        prices(tmp_path, PRICES.replace(old, new, 1))


def test_the_prices_that_come_along_are_dated_and_marked():
    known = load_prices()
    assert known["storage"].price.mid < known["transfer.internet"].price.mid
    for name, price in known.prices.items():
        assert price.source
        assert price.name == name
        assert "price of 2026-" in price.rests_on()
        assert price.checked or price.rests_on().endswith("to be checked")
    models = {name.removesuffix(".input") for name in known.prices if name.endswith(".input")}
    assert models == {n.removesuffix(".output") for n in known.prices if n.endswith(".output")}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hours: 100", "hours: much", "corpus: hours is 'much'; give a number above 0"),
        ("minutes: 30, ", "", r"sources lacks \['minutes'\]; the keys are fps, height"),
        ("seconds: 8,", "seconds: 8, tempo: 3,", r"clips has unknown \['tempo'\]"),
        ("seconds: 8,", "seconds: {4: 0.5, 8: 0.6},", "add up to 1.1; make it 1"),
        ("seconds: 8,", "seconds: {},", "seconds is {}; give a length, or lengths and shares"),
        ("seconds: 8,", "seconds: 8, kept: 1.5,", "kept is 1.5 .* give a share from 0 to 1"),
        ("hours: 100", "- 100", "cannot be read as YAML"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=f"(?s)corpus.yaml: .*{message}"):
        corpus(tmp_path, CORPUS.replace(old, new, 1))


def test_a_missing_description_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none.yaml: cannot be read as YAML"):
        load_corpus(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["8x8x4", "8x8x0c16:float16", "8x8x4c16", "a"])
def test_wrong_shapes_are_refused(text):
    with pytest.raises(ValueError, match="give a shape such as 8x8x4c16:float16, or none"):
        VideoLatents.parse(text)


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="type 'fp4': use one of float32, bfloat16"):
        TextFeatures.parse("512x4096:fp4")
