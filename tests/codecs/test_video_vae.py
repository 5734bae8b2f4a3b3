from pathlib import Path

import pytest
import torch

from avgen.checkpoint import CheckpointError
from avgen.codecs.causal3d import (
    fold_space,
    patches_to_pixels,
    pixels_to_patches,
    unfold_space,
)
from avgen.codecs.video_vae import VideoVAE


def small_vae(time_stride: int = 4) -> VideoVAE:
    torch.manual_seed(0)
    vae = VideoVAE(
        latent_channels=6,
        time_stride=time_stride,
        encoder_widths=(16, 24),
        encoder_depths=(1, 1),
        decoder_widths=(16, 24),
        decoder_depths=(1, 1),
    ).eval()
    for name, parameter in vae.named_parameters():
        if name.endswith("time.weight"):  # make the past matter as it does after training
            torch.nn.init.normal_(parameter, std=0.1)
    return vae.requires_grad_(False)


def random_frames(count: int, *, batch: int = 1, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.rand(batch, 3, count, size, size, generator=generator) * 2 - 1


@pytest.mark.parametrize(
    ("stride", "frames", "steps"), [(4, 1, 1), (4, 17, 5), (1, 1, 1), (1, 6, 6)]
)
def test_shapes_follow_the_strides(stride: int, frames: int, steps: int) -> None:
    vae = small_vae(stride)
    clip = random_frames(frames, batch=2, size=24)
    latents = vae.encode(clip)
    assert latents.shape == (2, 6, steps, 3, 3)
    assert vae.decode(latents).shape == clip.shape


def test_default_is_the_rate_of_the_design() -> None:
    vae = VideoVAE()
    assert (vae.time_stride, vae.space_stride, vae.latent_channels) == (4, 8, 16)
    assert 4 * sum(p.numel() for p in vae.parameters()) < 8e6


@pytest.mark.parametrize("stride", [1, 4])
def test_later_frames_do_not_change_earlier_latents(stride: int) -> None:
    vae = small_vae(stride)
    clip = random_frames(1 + 4 * stride)
    changed = clip.clone()
    changed[:, :, 1 + 2 * stride :] *= -1
    before, after = vae.encode(clip), vae.encode(changed)
    torch.testing.assert_close(before[:, :, :3], after[:, :, :3], atol=1e-6, rtol=0)
    assert not torch.allclose(before[:, :, 3:], after[:, :, 3:], atol=1e-3)


def test_later_latents_do_not_change_earlier_frames() -> None:
    vae = small_vae()
    latents = vae.encode(random_frames(17))
    changed = latents.clone()
    changed[:, :, 3:] *= -1
    before, after = vae.decode(latents), vae.decode(changed)
    torch.testing.assert_close(before[:, :, :9], after[:, :, :9], atol=1e-6, rtol=0)
    assert not torch.allclose(before[:, :, 9:], after[:, :, 9:], atol=1e-3)


def test_the_past_reaches_the_present() -> None:
    vae = small_vae()
    clip = random_frames(9)
    changed = clip.clone()
    changed[:, :, 0] *= -1
    assert not torch.allclose(vae.encode(clip)[:, :, 2], vae.encode(changed)[:, :, 2], atol=1e-4)


def test_first_frame_is_the_image_path() -> None:
    vae = small_vae()
    clip = random_frames(9)
    image_latent = vae.encode(clip[:, :, :1])
    torch.testing.assert_close(image_latent, vae.encode(clip)[:, :, :1], atol=1e-6, rtol=0)
    assert vae.decode(image_latent).shape[2] == 1


@pytest.mark.parametrize(("stride", "chunks"), [(4, (1, 4, 8, 4)), (4, (5, 12)), (1, (1, 1, 3))])
def test_streaming_equals_the_whole_clip(stride: int, chunks: tuple[int, ...]) -> None:
    vae = small_vae(stride)
    clip = random_frames(sum(chunks), batch=2)
    latents, frames = [], []
    encoder_state = decoder_state = None
    for chunk in clip.split(chunks, dim=2):
        latent, encoder_state = vae.encode_chunk(chunk, encoder_state)
        frame, decoder_state = vae.decode_chunk(latent, decoder_state)
        assert frame.shape == chunk.shape
        latents.append(latent)
        frames.append(frame)
    whole = vae.encode(clip)
    torch.testing.assert_close(torch.cat(latents, 2), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat(frames, 2), vae.decode(whole), atol=1e-5, rtol=0)


def test_two_streams_share_a_codec_without_mixing() -> None:
    vae = small_vae()
    clips = random_frames(9), -random_frames(9)
    states = [vae.encode_chunk(clip[:, :, :5], None)[1] for clip in clips]
    for clip, state in zip(clips, states, strict=True):
        latent, _ = vae.encode_chunk(clip[:, :, 5:], state)
        torch.testing.assert_close(latent, vae.encode(clip)[:, :, 2:], atol=1e-5, rtol=0)


def test_result_does_not_depend_on_the_batch() -> None:
    vae = small_vae()
    clips = random_frames(5, batch=3)
    alone = torch.cat([vae.encode(clip[None]) for clip in clips])
    torch.testing.assert_close(alone, vae.encode(clips), atol=1e-5, rtol=0)


def test_calibration_normalises_and_leaves_decoding_as_it_was() -> None:
    vae = small_vae()
    clips = random_frames(9, batch=4)
    before = vae.decode(vae.encode(clips))
    vae.calibrate([clips[:2], clips[2:]])
    latents = vae.encode(clips)
    values = latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(values.mean(1), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std(1), torch.ones(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(vae.decode(latents), before, atol=1e-4, rtol=0)


def test_calibration_needs_frames() -> None:
    with pytest.raises(ValueError, match="no batches"):
        small_vae().calibrate([])


def test_saved_and_loaded_is_the_same_codec(tmp_path: Path) -> None:
    vae = small_vae()
    vae.calibrate([random_frames(9)])
    identity = vae.identity
    sha = vae.save(tmp_path / "vae.safetensors", steps=3)
    loaded = VideoVAE.from_file(tmp_path / "vae.safetensors")
    assert loaded.identity == vae.identity == identity == sha
    assert not loaded.training
    clip = random_frames(5)
    assert torch.equal(loaded.encode(clip), vae.encode(clip))
    vae.calibrate([random_frames(5)])
    assert vae.identity != sha


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    small_vae().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        VideoVAE.from_file(path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 4, 16, 16), "use 1 or 5"),
        ((1, 3, 0, 16, 16), "use 1 or 5"),
        ((1, 3, 7, 16, 16), "use 5 or 9"),
        ((1, 3, 5, 20, 16), "multiples of 8"),
        ((1, 3, 5, 0, 16), "multiples of 8"),
        ((1, 1, 5, 16, 16), "not of shape"),
        ((3, 5, 16, 16), "not of shape"),
    ],
)
def test_frames_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_vae().encode(torch.zeros(shape))


def test_later_chunks_have_their_own_frame_counts() -> None:
    vae = small_vae()
    _, state = vae.encode_chunk(random_frames(1), None)
    with pytest.raises(ValueError, match=r"5 frames are not k \* 4; use 4 or 8"):
        vae.encode_chunk(random_frames(5), state)


def test_latents_of_another_codec_are_refused() -> None:
    with pytest.raises(ValueError, match="decode them with the codec"):
        small_vae().decode(torch.zeros(1, 16, 1, 2, 2))


def test_folding_and_patching_lose_nothing() -> None:
    features = torch.randn(2, 3, 4, 6, 5)
    assert torch.equal(unfold_space(fold_space(features, 2), 2), features)
    frames = random_frames(8, batch=2)
    assert torch.equal(patches_to_pixels(pixels_to_patches(frames, 4, 4), 4, 4), frames)


def test_a_patch_holds_neighbouring_pixels() -> None:
    frames = torch.zeros(1, 3, 4, 16, 16)
    frames[:, :, :, 4:8, 8:12] = 1
    patches = pixels_to_patches(frames, 4, 4)
    lit = patches.abs().sum(-1).nonzero().tolist()
    assert lit == [[0, 0, 1, 2]]
