from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLLTXVideo, AutoencoderKLWan

from avgen.codecs.diffusers_video import DiffusersVideoCodec


def tiny_wan(patch_size: int | None = None) -> AutoencoderKLWan:
    torch.manual_seed(0)
    channels = 3 * (patch_size or 1) ** 2
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.5, 2.0, 1.0],
        in_channels=channels,
        out_channels=channels,
        patch_size=patch_size,
    )


def tiny_ltx(timestep_conditioning: bool = False) -> AutoencoderKLLTXVideo:
    torch.manual_seed(0)
    model = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        patch_size=2,
        scaling_factor=0.5,
        timestep_conditioning=timestep_conditioning,
    )
    model.latents_mean.copy_(torch.linspace(-1, 1, 8))
    model.latents_std.copy_(torch.linspace(0.5, 2, 8))
    return model


MODELS = {
    "wan": (tiny_wan, 4, 8),
    "wan_patched": (lambda: tiny_wan(2), 4, 16),
    "ltx": (tiny_ltx, 8, 16),
    "ltx_conditioned": (lambda: tiny_ltx(timestep_conditioning=True), 8, 16),
}


def random_frames(count: int, size: int = 32) -> torch.Tensor:
    return torch.rand(1, 3, count, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(params=MODELS)
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[DiffusersVideoCodec, int, int]:
    make, time_stride, space_stride = MODELS[request.param]
    make().save_pretrained(tmp_path / "vae")
    return DiffusersVideoCodec.from_pretrained(tmp_path / "vae"), time_stride, space_stride


def test_strides_and_shapes(loaded: tuple[DiffusersVideoCodec, int, int]) -> None:
    codec, time_stride, space_stride = loaded
    assert (codec.time_stride, codec.space_stride) == (time_stride, space_stride)
    for steps in (0, 2):
        frames = random_frames(1 + steps * time_stride)
        latents = codec.encode(frames)
        cells = 32 // space_stride
        assert latents.shape == (1, codec.latent_channels, 1 + steps, cells, cells)
        assert codec.decode(latents).shape == frames.shape


def test_encoding_is_causal(loaded: tuple[DiffusersVideoCodec, int, int]) -> None:
    codec, time_stride, _ = loaded
    frames = random_frames(1 + 2 * time_stride)
    changed = frames.clone()
    changed[:, :, 1 + time_stride :] *= -1
    before, after = codec.encode(frames), codec.encode(changed)
    torch.testing.assert_close(before[:, :, :2], after[:, :, :2], atol=1e-5, rtol=0)


def test_frames_that_do_not_fit_are_refused(loaded: tuple[DiffusersVideoCodec, int, int]) -> None:
    codec, time_stride, space_stride = loaded
    with pytest.raises(ValueError, match=rf"use 1 or {1 + time_stride}"):
        codec.encode(random_frames(3))
    with pytest.raises(ValueError, match=f"multiples of {space_stride}"):
        codec.encode(random_frames(1, size=36))
    with pytest.raises(ValueError, match="decode them with the codec"):
        codec.decode(torch.zeros(1, 5, 1, 2, 2))


@torch.no_grad()
def test_wan_is_normalised_as_its_configuration_says() -> None:
    model = tiny_wan().eval()
    frames = random_frames(5)
    raw = model.encode(frames).latent_dist.mode()
    mean = torch.tensor([0.1, -0.2, 0.3, 0.0]).view(1, 4, 1, 1, 1)
    std = torch.tensor([1.5, 0.5, 2.0, 1.0]).view(1, 4, 1, 1, 1)
    codec = DiffusersVideoCodec(model)
    torch.testing.assert_close(codec.encode(frames), (raw - mean) / std)
    torch.testing.assert_close(codec.decode((raw - mean) / std), model.decode(raw).sample)


@torch.no_grad()
def test_ltx_is_normalised_as_its_configuration_says() -> None:
    model = tiny_ltx().eval()
    frames = random_frames(9)
    raw = model.encode(frames).latent_dist.mode()
    mean = torch.linspace(-1, 1, 8).view(1, 8, 1, 1, 1)
    std = torch.linspace(0.5, 2, 8).view(1, 8, 1, 1, 1)
    expected = (raw - mean) * 0.5 / std
    codec = DiffusersVideoCodec(model)
    torch.testing.assert_close(codec.encode(frames), expected)
    torch.testing.assert_close(codec.decode(expected), model.decode(raw).sample)


def test_subfolder_of_a_pipeline_is_found(tmp_path: Path) -> None:
    tiny_wan().save_pretrained(tmp_path / "vae")
    codec = DiffusersVideoCodec.from_pretrained(tmp_path, subfolder="vae")
    again = DiffusersVideoCodec.from_pretrained(tmp_path / "vae")
    assert codec.identity == again.identity
    assert codec.identity != DiffusersVideoCodec(tiny_ltx()).identity


def test_other_autoencoders_are_refused(tmp_path: Path) -> None:
    model = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=2)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="AutoencoderKLWan, AutoencoderKLLTXVideo"):
        DiffusersVideoCodec.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="AutoencoderKL is not supported"):
        DiffusersVideoCodec(model)
