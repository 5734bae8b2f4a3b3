import pytest
import torch

from avgen.model.patchify import audio_grid, tokens_from_video, video_from_tokens, video_grid


@pytest.mark.parametrize("patch", [1, 2])
def test_patchify_round_trip(patch):
    latents = torch.randn(2, 3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    tokens = tokens_from_video(latents, patch)
    assert tokens.shape == (2, 5 * 4 * 6 // patch**2, 3 * patch**2)
    assert torch.equal(video_from_tokens(tokens, (5, 4, 6), patch), latents)


def test_grid_order_is_that_of_the_tokens():
    grid = video_grid((3, 4, 8), patch=2, time_stride=4, fps=25)
    row = torch.arange(4.0)[None, None, None, :, None].expand(1, 1, 3, 4, 8)
    tokens = tokens_from_video(row, 2)[0].mean(-1)
    assert grid.place is not None
    assert torch.allclose(
        grid.place[:, 0], (tokens - 1.5) / 4
    )  # eight columns of two make the longer side
    assert grid.interval[:8].tolist() == [[0.0, pytest.approx(0.04)]] * 8
    assert grid.interval[8].tolist() == [pytest.approx(0.04), pytest.approx(0.2)]


def test_streams_of_one_clip_end_together():
    video, audio = video_grid((13, 8, 8), patch=2, time_stride=4, fps=25), audio_grid(49, 25)
    assert video.interval[-1, 1].item() == pytest.approx(1.96)
    assert audio.interval[-1, 1].item() == pytest.approx(1.96)


def test_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="patches of 2"):
        video_grid((3, 5, 4), patch=2, time_stride=4, fps=25)
