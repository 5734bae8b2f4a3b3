"""Own network against the `encodec` package on random weights, and the adapter around that package."""

from pathlib import Path

import pytest
import torch
from encodec.model import EncodecModel
from torch import Tensor

from avgen.checkpoint import CheckpointError
from avgen.codecs.encodec_adapter import (
    EncodecAudioCodec,
    build_encodec,
    code_to_scale,
    fold_steps,
    scale_to_code,
    seanet_from_encodec,
    unfold_steps,
)


def randomised(name: str) -> EncodecModel:
    """The package's model with weights that keep signals alive and codebooks that fit its latents."""
    torch.manual_seed(0)
    model = build_encodec(name)  # type: ignore[arg-type]
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("weight_g"):
                up = "convtr" in key
                out = dict(model.named_parameters())[key[:-1] + "v"].shape
                parameter.fill_((out[1] * out[2] / (2 * out[0])) ** 0.5 if up else 1.0)
        for layer in model.quantizer.vq.layers:
            codebook = layer._codebook  # type: ignore[operator]
            codebook.inited.fill_(1)
            codebook.embed.copy_(0.3 * torch.randn_like(codebook.embed))
    return model.eval()


def sound(channels: int, samples: int) -> Tensor:
    return 0.5 * torch.randn(2, channels, samples, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def theirs() -> EncodecModel:
    return randomised("encodec_24khz")


@pytest.mark.parametrize("samples", [9600, 9601, 8000, 300])
@torch.inference_mode()
def test_own_network_equals_the_package(theirs: EncodecModel, samples: int) -> None:
    own = seanet_from_encodec(theirs)
    assert own.hop == 320
    waveform = sound(1, samples)
    expected = theirs.encoder(waveform)
    assert float(expected.std()) > 0.05
    torch.testing.assert_close(own.encoder(waveform)[0], expected, atol=1e-5, rtol=0)
    ((codes, _),) = theirs.encode(waveform)
    assert torch.equal(own.encode_codes(waveform), codes)
    decoded = theirs.decode([(codes, None)])
    assert float(decoded.std()) > 0.01
    torch.testing.assert_close(own.decode(own.encode(waveform)), decoded, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_streaming_own_network_equals_the_whole_clip_of_the_package(theirs: EncodecModel) -> None:
    own = seanet_from_encodec(theirs)
    waveform = sound(1, 320 * 24 + 100)
    ((codes, _),) = theirs.encode(waveform)
    parts, state = [], None
    for piece in waveform.split(1000, dim=-1):
        part, state = own.encode_chunk(piece, state)
        parts.append(part)
    parts.append(own.encode_chunk(waveform[..., :0], state, final=True)[0])
    assert torch.equal(torch.cat(parts, dim=-1), codes)
    latents = own.latents_from_codes(codes)
    sounds, state = [], None
    for piece in latents.split(3, dim=-1):
        part, state = own.decode_chunk(piece, state)
        sounds.append(part)
    sounds.append(own.decode_chunk(latents[..., :0], state, final=True)[0])
    expected = theirs.decode([(codes, None)])
    torch.testing.assert_close(torch.cat(sounds, dim=-1), expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_three_steps_make_a_token(theirs: EncodecModel, tmp_path: Path) -> None:
    torch.save(theirs.state_dict(), tmp_path / "encodec_24khz.th")
    codec = EncodecAudioCodec.from_file(tmp_path / "encodec_24khz.th", bandwidth=6.0)
    assert (codec.hop, codec.latent_channels, codec.num_codebooks) == (960, 384, 24)
    assert codec.sample_rate / codec.hop == 25
    waveform = sound(1, 960 * 6 - 10)
    codes = codec.encode_codes(waveform)
    assert codes.shape == (2, 24, 6)
    theirs.set_target_bandwidth(6.0)
    ((expected, _),) = theirs.encode(torch.nn.functional.pad(waveform, (0, 10)))
    theirs.bandwidth = None
    assert torch.equal(unfold_steps(codes, 3), expected)
    codec.calibrate([waveform])
    latents = codec.encode(waveform)
    torch.testing.assert_close(latents, codec.latents_from_codes(codes))
    assert float(latents.mean().abs()) < 0.01
    decoded = theirs.decode([(expected, None)])
    torch.testing.assert_close(codec.decode(latents), decoded, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_stereo_model_with_its_volume_in_latents_and_codes(tmp_path: Path) -> None:
    model = randomised("encodec_48khz")
    torch.save(model.state_dict(), tmp_path / "encodec_48khz.th")
    codec = EncodecAudioCodec.from_file(tmp_path / "encodec_48khz.th", "encodec_48khz")
    assert codec.sample_rate / codec.hop == 25
    assert codec.audio_channels == 2
    waveform = sound(2, 49_920)[:1]
    codes = codec.encode_codes(waveform)
    latents = codec.latents_from_codes(codes)
    assert latents.shape == (1, codec.latent_channels, 26)
    model.set_target_bandwidth(6.0)
    model.overlap = 0.0
    frames = model.encode(waveform)
    parts = [model._decode_frame(frame) for frame in frames]
    expected = torch.cat(parts, dim=-1)
    difference = (codec.decode(latents) - expected).abs().max() / expected.abs().max()
    assert float(difference) < 0.01
    again = codec.latents_from_codes(codec.codes_from_latents(latents))
    torch.testing.assert_close(again[:, -1], latents[:, -1])


def test_folding_and_volume_codes_are_invertible() -> None:
    steps = torch.arange(2 * 3 * 12).view(2, 3, 12)
    assert torch.equal(unfold_steps(fold_steps(steps, 3), 3), steps)
    assert fold_steps(steps, 3)[0, :, 0].tolist() == [0, 12, 24, 1, 13, 25, 2, 14, 26]
    volumes = torch.tensor([1e-5, 1e-3, 0.1, 2.0])
    back = code_to_scale(scale_to_code(volumes, 1024), 1024)
    torch.testing.assert_close(back, volumes, rtol=0.01, atol=0)


def test_wrong_files_and_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such weights file"):
        EncodecAudioCodec.from_file(tmp_path / "missing.th")
    broken = tmp_path / "broken.th"
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"broken\.th: not a readable"):
        EncodecAudioCodec.from_file(broken)
    torch.save({"a": torch.zeros(1)}, tmp_path / "foreign.th")
    with pytest.raises(CheckpointError, match="not the weights of encodec_24khz"):
        EncodecAudioCodec.from_file(tmp_path / "foreign.th")
    with pytest.raises(ValueError, match=r"bandwidth 7\.0 kbit/s"):
        EncodecAudioCodec(bandwidth=7.0)
    with pytest.raises(ValueError, match="no EnCodec model 'mimi'"):
        build_encodec("mimi")  # type: ignore[arg-type]
    codec = EncodecAudioCodec()
    with pytest.raises(ValueError, match="1 channels, at least one sample"):
        codec.encode(torch.zeros(1, 2, 960))
    with pytest.raises(ValueError, match="expected \\(batch, 24 codebooks"):
        codec.latents_from_codes(torch.zeros(1, 8, 2, dtype=torch.long))
