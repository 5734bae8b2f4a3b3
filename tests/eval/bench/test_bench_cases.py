"""Every case runs, at small sizes, and does the work that it is compared on."""

import sys

import pytest
import torch
import yaml
from avgen_eval.bench import codec, generation, sampler, training_step
from avgen_eval.bench.setup import Setup
from avgen_eval.bench.timing import Measurement

from avgen.cli import recipes
from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.video_vae import VideoVAE
from avgen.model.bundle import Network
from avgen.model.config import ModelConfig, StreamConfig
from avgen.pipeline import AVPipeline
from avgen.sampling.guidance import Guidance
from avgen.sampling.sampler import Sampler

SHALLOW = ModelConfig(
    streams={
        "video": StreamConfig(channels=4, width=32, num_heads=2, patch=2, spatial=True),
        "audio": StreamConfig(channels=8, width=16, num_heads=1),
    },
    depth=1,
    head_dim=16,
    text_width=32,
)
MEDIA = codec.Media("cpu", frames=5, size=32, seconds=0.2)
PEER_WARNS = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """Two turns, and small random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bench_weights")
    video = VideoVAE(latent_channels=4, encoder_widths=(8, 8), decoder_widths=(8, 8))
    audio = SeanetAudioCodec(latent_channels=8, num_filters=4)
    AVPipeline(Network(SHALLOW, {"num_heads": 2}), video, audio).save_pretrained(folder)
    return Setup(repeats=2, batch=1, weights=str(folder))


def by_case(rows: list[Measurement], comparison: str) -> dict[str, Measurement]:
    return {row.case: row for row in rows if row.comparison == comparison}


@PEER_WARNS
def test_training_steps_of_equal_size(setup: Setup) -> None:
    ours, aligned, peer = setup.measure([training_step.comparison(SHALLOW, setup)])
    assert ours.reason is peer.reason is None
    assert ours.parameters == sum(
        p.numel() for p in training_step.DualStreamTransformer(SHALLOW).parameters()
    )
    assert peer.ratio is not None
    assert aligned.ratio is not None
    assert aligned.parameters > ours.parameters
    found = training_step.headline(ours, aligned, peer)
    assert found["ratio_quartiles"][0] <= found["ratio_peer_over_ours_median"]
    assert found["ours_seconds_median"] == ours.to_dict()["median"]


def test_a_step_trains(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[torch.nn.Module] = []
    build = training_step.DualStreamTransformer
    monkeypatch.setattr(
        training_step,
        "DualStreamTransformer",
        lambda config: models.append(build(config)) or models[-1],
    )
    step = training_step.comparison(SHALLOW, setup).cases[training_step.OURS]()
    heads = [models[0].ports[name].head.weight for name in ("video", "audio")]  # type: ignore[index]
    assert not any(head.detach().any() for head in heads)
    step.run()
    assert all(head.detach().any() for head in heads)


def test_without_diffusers_our_step_is_timed_alone(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers.models.transformers.transformer_ltx2", None)
    monkeypatch.setattr(training_step, "preset", lambda name: SHALLOW)
    result = training_step.bench(setup)
    ours, _, peer = result.measurements
    assert len(ours.seconds) == 2
    assert "pip install 'avgen[diffusers]'" in (peer.reason or "")
    written = result.to_dict()
    assert written["ours_seconds_median"] > 0
    assert written["peer_seconds_median"] is written["ratio_quartiles"] is None
    assert (written["batch"], written["preset"], written["repeats"]) == (1, "tiny", 2)


def test_codecs_are_of_about_equal_size(setup: Setup) -> None:
    result = codec.bench(setup, MEDIA)
    assert [row.reason for row in result.measurements if row.reason] == []
    for half in ("encode", "decode"):
        video = by_case(result.measurements, f"video {half}")
        sound = by_case(result.measurements, f"sound {half}")
        assert (len(video), len(sound)) == (3, 4)
        del sound["avgen project codec 16 kHz"]
        for rows in (video, sound):
            ours, *peers = (row.parameters or 0 for row in rows.values())
            assert all(0.75 < peer / ours < 1.3 for peer in peers), (half, ours, peers)
        assert {row.unit for row in video.values()} == {"frames/s"}
        assert {row.work for row in sound.values()} == {MEDIA.seconds}


@torch.inference_mode()
def test_video_codecs_compress_alike() -> None:
    ours, wan, ltx2 = (
        build(MEDIA) for build in (codec._project_video, codec._wan, codec._ltx2_video)
    )
    latents = ours.encode.run()
    assert latents.shape == MEDIA.latents().shape == (1, 16, 2, 4, 4)
    assert ours.decode.run().shape == MEDIA.video().shape
    for peer in (wan, ltx2):
        assert peer.encode.run().latent_dist.mode().shape == latents.shape
        assert peer.decode.run().sample.shape == MEDIA.video().shape


@torch.inference_mode()
def test_the_twin_of_encodec_makes_as_many_codes_and_samples() -> None:
    twin, theirs = codec._encodec_twin(MEDIA), codec._encodec(MEDIA)
    ((codes, _),) = theirs.encode.run()
    assert twin.encode.run().shape == codes.shape == (1, 8, 15)
    assert twin.decode.run().shape == theirs.decode.run().shape == (1, 1, 4800)


@pytest.mark.parametrize(("scale", "rows"), [(1.0, 1), (3.0, 2)])
def test_the_bare_calls_are_those_of_the_sampler(setup: Setup, scale: float, rows: int) -> None:
    pipe = AVPipeline.from_pretrained(setup.weights)
    scene = sampler._Scene(pipe, setup)
    seen: list[list[torch.Tensor]] = []
    pipe.network.model.register_forward_pre_hook(
        lambda _, arguments: seen.append([x.tokens for x in arguments[0].values()])
    )
    cases = scene.cases(Sampler(3, guidance=Guidance(scale)))
    runs = []
    for name in (sampler.LOOP, sampler.BARE):
        prepared = cases[name]()
        seen.clear()
        prepared.run()
        runs.append(list(seen))
    loop, bare = runs
    assert len(loop) == len(bare) == 3
    for first, second in zip(loop, bare, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert {len(tokens) for tokens in first} == {rows}


def test_the_sampler_is_compared_with_its_own_calls(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "STEPS", (2,))
    rows = sampler.bench(setup).measurements
    assert [row.comparison for row in rows[::2]] == [
        "one evaluation, one clip",
        "2 steps, no guidance",
        "2 steps, text guidance",
    ]
    assert [row.reason for row in rows if row.reason] == []
    assert {row.ratio.over for row in rows[3::2] if row.ratio} == {sampler.BARE}


def test_generation_from_caption_to_file(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "WAYS", {"2 steps": {"steps": 2}, "1 step": {"steps": 1}})
    result = generation.bench(setup)
    assert [row.reason for row in result.measurements if row.reason] == []
    assert [row.case for row in result.measurements[2:]] == ["weights loaded", "MP4 written"]
    written = result.to_dict()
    assert 0 < written["clip_seconds_median"] <= written["clip_seconds_worst"]


def test_the_aligned_step_is_that_of_the_recipe():
    recipe = yaml.safe_load(recipes.find("joint").read_text())
    config = recipe["model"]["init_args"]["config"]
    aligned = {**config, "aligned": tuple(config["aligned"])}
    assert aligned == training_step.AS_TRAINED
