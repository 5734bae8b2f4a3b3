import pytest
import torch

from avgen import tasks
from avgen.model.patchify import audio_grid, video_grid

VIDEO = video_grid((4, 4, 4), patch=2, time_stride=4, fps=25)
AUDIO = audio_grid(13, 25)


def given(task: tasks.Task) -> tuple[int, int]:
    return int(task.given_mask("video", VIDEO.interval).sum()), int(
        task.given_mask("audio", AUDIO.interval).sum()
    )


def test_patterns():
    assert given(tasks.text_to_audio_video()) == (0, 0)
    assert given(tasks.image_to_audio_video(1 / 25)) == (4, 0)
    assert given(tasks.video_to_audio()) == (16, 0)
    assert given(tasks.audio_to_video()) == (0, 13)
    # 0.25 s: two latents are whole (until frame 5, 0.2 s); six audio steps end by 0.24 s
    assert given(tasks.extend(0.25)) == (8, 6)


def test_a_token_that_reaches_out_of_the_span_is_generated():
    mask = tasks.extend(0.199).given_mask("video", VIDEO.interval)
    assert int(mask.sum()) == 4


def test_infill_gives_both_sides():
    mask = tasks.infill(0.2, 0.32).given_mask("audio", AUDIO.interval)
    assert (~mask).nonzero().flatten().tolist() == [5, 6, 7]
    with pytest.raises(ValueError, match="is empty"):
        tasks.infill(0.5, 0.5)


@pytest.mark.parametrize("name", ["t2av", "i2av", "v2a", "a2v", "extend", "infill"])
def test_drawn_tasks_leave_something_to_generate(name):
    for seed in range(20):
        task = tasks.draw(name, 0.52, 1 / 25, torch.Generator().manual_seed(seed))
        assert sum(given(task)) < 16 + 13


def test_unknown_task_names_the_known_ones():
    with pytest.raises(ValueError, match="use t2av"):
        tasks.draw("t2v", 1.0, 0.04, torch.Generator())
