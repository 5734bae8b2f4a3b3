"""The project's audio codec: shapes, streaming, causality, codes, calibration, files, the shipped weights."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from avgen_data_prep.worlds import WORLDS
from torch import Tensor

from avgen import checkpoint
from avgen.checkpoint import CheckpointError
from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.quantiser import ResidualQuantiser, kmeans, nearest
from avgen.objective.spectral import log_mel_distance, magnitudes

SHIPPED = Path(checkpoint.__file__).parent / "weights" / "tiny" / "audio_codec.safetensors"
VARIANTS = {
    "project": {"strides": (2, 4), "patch": 4},
    "seanet": {"strides": (2, 4), "patch": 1, "companding": 0.0, "true_skip": False},
    "recurrent": {"strides": (3, 2), "patch": 1, "num_lstm_layers": 2},
    "reflect": {"strides": (2, 4), "patch": 1, "pad_mode": "reflect", "num_residual_layers": 2},
    "stereo": {"strides": (2, 5), "patch": 2, "audio_channels": 2, "pad_mode": "reflect"},
}


def small_codec(**changes: object) -> SeanetAudioCodec:
    torch.manual_seed(1)
    arguments = {"num_filters": 4, "latent_channels": 6, "num_codebooks": 3, "codebook_size": 16}
    codec = SeanetAudioCodec(**{**arguments, "strides": (2, 4), "patch": 4, **changes})  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(64, codec.latent_channels, generator=generator) * 0.3
    codec.quantiser.initialise(vectors, generator)
    codec.latent_mean += 0.1
    codec.latent_std *= 0.3
    return codec.eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("samples", [1, 31, 32, 33, 320])
def test_steps_cover_the_waveform(samples: int) -> None:
    codec = small_codec()
    latents = codec.encode(noise(2, 1, samples))
    steps = -(-samples // codec.hop)
    assert latents.shape == (2, codec.latent_channels, steps)
    assert codec.decode(latents).shape == (2, 1, steps * codec.hop)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_streaming_equals_whole_clip(variant: str, chunk: int) -> None:
    codec = small_codec(**VARIANTS[variant])
    waveform = noise(2, codec.audio_channels, 9 * codec.hop + 5)
    whole_latents = codec.encoder(waveform)[0]
    parts, state = [], None
    for piece in waveform.split(chunk, dim=-1):
        part, state = codec.encoder(piece, state, False)
        parts.append(part)
    parts.append(codec.encoder(waveform[..., :0], state, True)[0])
    torch.testing.assert_close(torch.cat(parts, -1), whole_latents, atol=1e-5, rtol=0)

    latents = codec.normalise(whole_latents)
    whole = codec.decode(latents)
    parts, state = [], None
    for piece in latents.split(max(1, chunk // 7), dim=-1):
        part, state = codec.decode_chunk(piece, state)
        parts.append(part)
    parts.append(codec.decode_chunk(latents[..., :0], state, final=True)[0])
    torch.testing.assert_close(torch.cat(parts, -1), whole, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_streamed_codes_arrive_without_delay() -> None:
    codec = small_codec()
    waveform = noise(1, 1, 4 * codec.hop)
    first, state = codec.encode_chunk(waveform[..., : codec.hop])
    rest, _ = codec.encode_chunk(waveform[..., codec.hop :], state, final=True)
    assert first.shape[-1] == 1
    assert torch.equal(torch.cat([first, rest], -1), codec.encode_codes(waveform))
    sound, _ = codec.decode_chunk(codec.latents_from_codes(first))
    assert sound.shape[-1] == codec.hop


@torch.inference_mode()
def test_stream_state_can_be_branched() -> None:
    codec = small_codec(num_lstm_layers=1)
    latents = noise(1, codec.latent_channels, 12)
    _, state = codec.decode_chunk(latents[..., :5])
    once, _ = codec.decode_chunk(latents[..., 5:8], state)
    codec.decode_chunk(noise(1, codec.latent_channels, 3, seed=9), state)
    again, _ = codec.decode_chunk(latents[..., 5:8], state)
    assert torch.equal(once, again)


@torch.inference_mode()
def test_the_future_does_not_reach_the_past() -> None:
    codec = small_codec()
    waveform = noise(1, 1, 8 * codec.hop)
    changed = waveform.clone()
    changed[..., 5 * codec.hop :] += 0.5
    before, after = codec.encoder(waveform)[0], codec.encoder(changed)[0]
    assert torch.equal(before[..., :5], after[..., :5])
    assert not torch.allclose(before[..., 5], after[..., 5])
    sound, other = codec.decode(before), codec.decode(after)
    assert torch.equal(sound[..., : 5 * codec.hop], other[..., : 5 * codec.hop])


@torch.inference_mode()
def test_result_does_not_depend_on_the_batch() -> None:
    codec = small_codec()
    waveform = noise(3, 1, 200)
    together = codec.decode(codec.encode(waveform))
    alone = codec.decode(codec.encode(waveform[1:2]))
    torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=0)


def test_codes_and_latents_agree() -> None:
    codec = small_codec()
    scale = 10.0 ** -torch.arange(3)
    codec.quantiser.codebooks.copy_(codec.quantiser.codebooks * scale[:, None, None] * 5)
    codes = codec.encode_codes(noise(2, 1, 400))
    latents = codec.latents_from_codes(codes)
    torch.testing.assert_close(latents, codec.encode(noise(2, 1, 400)))
    again = codec.latents_from_codes(codec.codes_from_latents(latents))
    torch.testing.assert_close(again, latents, atol=1e-4, rtol=0)
    assert codec.latents_from_codes(codes[:, :1]).shape == latents.shape


def test_calibration_normalises_each_channel() -> None:
    codec = small_codec()
    batches = [noise(4, 1, 40 * codec.hop, seed=s) for s in range(4)]
    codec.calibrate(iter(batches))
    latents = torch.cat([codec.encode(b) for b in batches]).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(latents.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(0), torch.ones(6), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="at least one batch"):
        codec.calibrate([])


def test_file_brings_back_the_same_codec(tmp_path: Path) -> None:
    codec = small_codec(num_lstm_layers=1, pad_mode="reflect")
    identity = codec.save(tmp_path / "codec.safetensors")
    loaded = SeanetAudioCodec.from_file(tmp_path / "codec.safetensors")
    assert loaded.identity == codec.identity == identity
    assert loaded.config == codec.config
    assert not loaded.training
    waveform = noise(1, 1, 300)
    assert torch.equal(loaded.decode(loaded.encode(waveform)), codec.decode(codec.encode(waveform)))
    codec.latent_mean += 1e-3
    assert codec.save(tmp_path / "other.safetensors") != identity


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "codec.safetensors"
    small_codec().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        SeanetAudioCodec.from_file(path)
    path.write_bytes(whole[:-4] + bytes(4 * [0x3F]))
    with pytest.raises(CheckpointError, match="damaged"):
        SeanetAudioCodec.from_file(path)
    checkpoint.save(path, {"a": torch.zeros(1)}, kind="video_vae", config={})
    with pytest.raises(CheckpointError, match="'audio_codec' are needed"):
        SeanetAudioCodec.from_file(path)
    with pytest.raises(CheckpointError, match="no such weights file"):
        SeanetAudioCodec.from_file(tmp_path / "missing.safetensors")


def test_errors_name_the_value_and_the_limit() -> None:
    codec = small_codec()
    with pytest.raises(ValueError, match=r"\(2, 2, 64\): expected \(batch, 1 channels"):
        codec.encode(torch.zeros(2, 2, 64))
    with pytest.raises(ValueError, match="no samples"):
        codec.encode(torch.zeros(1, 1, 0))
    with pytest.raises(ValueError, match="6 channels, latent steps"):
        codec.decode(torch.zeros(1, 5, 4))
    with pytest.raises(ValueError, match="1 to 3 codebooks"):
        codec.latents_from_codes(torch.zeros(1, 4, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="entries 0 to 15"):
        codec.latents_from_codes(torch.full((1, 3, 2), 16))


def test_every_codebook_reduces_the_error() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(500, 8, generator=generator)
    quantiser = ResidualQuantiser(8, 4, 32)
    quantiser.initialise(vectors, generator)
    latents = vectors.t()[None]
    codes = quantiser.encode(latents)
    errors = [
        float((quantiser.decode(codes[:, :q]) - latents).square().mean()) for q in range(1, 5)
    ]
    assert all(b < 0.8 * a for a, b in pairwise(errors))


def test_learning_follows_the_data_and_passes_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    quantiser = ResidualQuantiser(4, 1, 8, decay=0.5)
    quantiser.learn(torch.randn(1, 4, 64, generator=generator), generator)
    moved = torch.randn(1, 4, 64, generator=generator) + 5
    before = float((quantiser.decode(quantiser.encode(moved)) - moved).square().mean())
    for _ in range(20):
        moved.requires_grad_()
        quantised = quantiser.learn(moved, generator)
    after = float((quantiser.decode(quantiser.encode(moved)) - moved).detach().square().mean())
    assert after < 0.2 * before
    quantised.latents.sum().backward()
    assert moved.grad is not None
    assert torch.equal(moved.grad, torch.ones_like(moved))


def test_unused_entries_are_restarted() -> None:
    generator = torch.Generator().manual_seed(0)
    quantiser = ResidualQuantiser(2, 1, 4, decay=0.5)
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
    quantiser.codebooks[0] = torch.tensor([[0.0, 0.0], [500, 500], [600, 600], [700, 700]])
    quantiser.ready.fill_(True)
    for _ in range(40):
        vectors = centres.repeat(8, 1) + 0.1 * torch.randn(32, 2, generator=generator)
        quantiser.learn(vectors.t()[None], generator)
    assert len(quantiser.encode(vectors.t()[None]).unique()) == 4
    assert float(quantiser.codebooks.abs().max()) < 10


def test_training_of_codebooks_is_determined_by_the_generator() -> None:
    def train() -> Tensor:
        generator = torch.Generator().manual_seed(3)
        quantiser = ResidualQuantiser(4, 2, 8)
        for _ in range(3):
            quantiser.learn(torch.randn(2, 4, 20, generator=generator), generator)
        return quantiser.codebooks

    assert torch.equal(train(), train())


def test_kmeans_finds_clusters_and_nearest_is_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(200, 3, generator=generator)
    centres, counts = kmeans(vectors, 10, generator, 10)
    assert int(counts.sum()) == 200
    expected = torch.cdist(vectors, centres).argmin(dim=1)
    assert torch.equal(nearest(vectors, centres), expected)


@pytest.fixture(scope="module")
def shipped() -> SeanetAudioCodec:
    return SeanetAudioCodec.from_file(SHIPPED)


def test_shipped_codec_has_one_latent_per_frame(shipped: SeanetAudioCodec) -> None:
    assert shipped.sample_rate / shipped.hop == 25
    assert SHIPPED.stat().st_size < 8_000_000


@torch.inference_mode()
def test_shipped_codec_streams(shipped: SeanetAudioCodec) -> None:
    waveform = torch.from_numpy(WORLDS["drums"].render(1_000_000, size=16).clip.waveform)[None]
    codes, state = [], None
    for piece in waveform.split(2560, dim=-1):
        code, state = shipped.encode_chunk(piece, state)
        codes.append(code)
    assert torch.equal(torch.cat(codes, -1), shipped.encode_codes(waveform))
    latents = shipped.encode(waveform)
    sounds, state = [], None
    for piece in latents.split(4, dim=-1):
        sound, state = shipped.decode_chunk(piece, state)
        sounds.append(sound)
    whole = shipped.decode(latents)
    assert float(whole.abs().max()) > 0.1
    torch.testing.assert_close(torch.cat(sounds, -1), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("world", ["bounce", "drums"])
@torch.inference_mode()
def test_shipped_codec_keeps_onsets(shipped: SeanetAudioCodec, world: str) -> None:
    examples = [WORLDS[world].render(1_000_000 + i, size=16) for i in range(12)]
    waveform = torch.stack([torch.from_numpy(e.clip.waveform) for e in examples])
    latents = shipped.encode(waveform)
    noisy = latents + 0.1 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    for sound in (shipped.decode(latents), shipped.decode(noisy)):
        shifts = []
        for index, example in enumerate(examples):
            for event in example.truth["events"]:
                shifts.append(
                    rise(sound[index, 0], event["time"]) - rise(waveform[index, 0], event["time"])
                )
        assert np.median(np.abs(shifts)) <= 0.004
        assert np.mean(np.abs(shifts) <= 0.010) >= 0.9
        assert float(log_mel_distance(sound, waveform, 16_000)) < 0.5


def rise(waveform: Tensor, time: float) -> float:
    """Seconds of the steepest rise of loudness within 30 ms of ``time``."""
    loudness = torch.log1p(300 * magnitudes(waveform[None, None], 64)[0]).mean(0)
    first = max(0, round((time - 0.03) * 1000))
    window = loudness[first : first + 60]
    return (first + int((window[4:] - window[:-4]).argmax()) + 2) / 1000


@torch.inference_mode()
def test_latents_before_the_quantiser_are_of_another_codec(tmp_path):
    codec = SeanetAudioCodec(latent_channels=8, num_filters=4)
    codec.quantiser.initialise(torch.randn(2048, 8), torch.Generator().manual_seed(0))
    quantised = codec.save(tmp_path / "quantised.safetensors")
    codec.quantised = False
    assert codec.save(tmp_path / "continuous.safetensors") != quantised
    loaded = SeanetAudioCodec.from_file(tmp_path / "continuous.safetensors")
    waveform = 0.1 * torch.randn(1, 1, 6400)
    latents = loaded.encode(waveform)
    assert torch.allclose(loaded.denormalise(latents), loaded.encoder(waveform)[0], atol=1e-5)
    snapped = loaded.latents_from_codes(loaded.codes_from_latents(latents))
    again = SeanetAudioCodec.from_file(tmp_path / "quantised.safetensors").encode(waveform)
    assert torch.allclose(snapped, again, atol=1e-5)
