import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from avgen_data_prep.pipeline.stage import Row
from avgen_data_prep.stages.fingerprint import Fingerprint, picture_bits, sound_bits
from avgen_data_prep.stages.near_duplicates import NearDuplicates, copies
from avgen_data_prep.stages.pictures import shrunk
from stage_clips import RATE, measured, silent, sounding, world

from avgen.clip import Clip

WORLDS = ("bounce", "drums", "talker", "engine")


def half(clip: Clip) -> Clip:
    assert clip.frames is not None
    return clip.replace(frames=shrunk(clip.frames, 48, 48))


def brighter_and_quieter(clip: Clip) -> Clip:
    assert clip.frames is not None
    assert clip.waveform is not None
    frames = np.clip(1.1 * clip.frames + 6, 0, 255).astype(np.uint8)
    return clip.replace(frames=frames, waveform=0.6 * clip.waveform)


def noisy(clip: Clip) -> Clip:
    assert clip.frames is not None
    assert clip.waveform is not None
    rng = np.random.default_rng(0)
    frames = np.clip(clip.frames + rng.normal(0, 4, clip.frames.shape), 0, 255).astype(np.uint8)
    hiss = rng.normal(0, 0.001, clip.waveform.shape).astype(np.float32)
    return clip.replace(frames=frames, waveform=clip.waveform + hiss)


def differing(first: Row, second: Row) -> list[int]:
    """Bits in which the hashes of picture and sound differ."""
    names = ("video_hash", "audio_hash")
    return [(int(first[name], 16) ^ int(second[name], 16)).bit_count() for name in names]


@pytest.mark.parametrize("change", [half, brighter_and_quieter, noisy])
@pytest.mark.parametrize("name", WORLDS)
def test_changes_that_do_not_matter_leave_the_hashes(
    name: str, change: Callable[[Clip], Clip], tmp_path: Path
) -> None:
    clip = world(name, 2)
    before = measured(Fingerprint(), clip, tmp_path / "before")
    after = measured(Fingerprint(), change(clip), tmp_path / "after")
    assert max(differing(before, after)) <= 20


def test_other_clips_have_other_hashes() -> None:
    clips = [world(name, seed) for name in WORLDS for seed in range(5)]
    pictures = [picture_bits(clip.frames) for clip in clips if clip.frames is not None]
    sounds = [sound_bits(clip.waveform, RATE) for clip in clips if clip.waveform is not None]
    for i in range(len(clips)):
        for j in range(i):
            assert max((pictures[i] != pictures[j]).sum(), (sounds[i] != sounds[j]).sum()) > 30


def test_nothing_to_hash_gives_zeros_or_null(tmp_path: Path) -> None:
    grey = np.full((2, 16, 16, 3), 99, np.uint8)
    assert measured(Fingerprint(), silent(grey), tmp_path / "grey") == {
        "video_hash": "0" * 64,
        "audio_hash": None,
    }
    assert measured(Fingerprint(), sounding(np.zeros(480)), tmp_path / "silence") == {
        "video_hash": None,
        "audio_hash": "0" * 64,
    }


def hashes(count: int, seed: int = 0, ones: float = 0.4) -> np.ndarray:
    """Bits of both streams, ``(N, 512)``."""
    return np.random.default_rng(seed).uniform(size=(count, 512)) < ones


def rows_of(bits: np.ndarray) -> list[Row]:
    return [
        {
            "id": f"{number:024d}",
            "video_hash": np.packbits(row[:256]).tobytes().hex(),
            "audio_hash": np.packbits(row[256:]).tobytes().hex(),
        }
        for number, row in enumerate(bits)
    ]


def flipped(row: np.ndarray, video: int, audio: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    other = row.copy()
    other[rng.choice(256, video, replace=False)] ^= True
    other[256 + rng.choice(256, audio, replace=False)] ^= True
    return other


def test_copies_point_at_the_first_of_their_kind() -> None:
    bits = hashes(3)
    near, far, dubbed = flipped(bits[1], 20, 3), flipped(bits[1], 21, 0), flipped(bits[1], 0, 60)
    rows = rows_of(np.stack([*bits, near, bits[1], far, dubbed, bits[0]]))
    found = NearDuplicates().gather(rows)
    of = [row.get("near_duplicate_of") for row in found]
    first, second = rows[0]["id"], rows[1]["id"]
    assert of == [None, None, None, second, second, None, None, first]
    assert found[3]["near_duplicate_share"] == pytest.approx(20 / 256, abs=1e-4)
    assert found[4]["near_duplicate_share"] == 0


def test_a_copy_of_a_copy_that_is_far_from_the_first_is_kept() -> None:
    first = hashes(1)[0]
    second = first.copy()
    second[:20] ^= True
    third = second.copy()
    third[20:40] ^= True
    found = NearDuplicates().gather(rows_of(np.stack([first, second, third])))
    assert [row.get("near_duplicate_of") for row in found] == [None, "0" * 24, None]


def test_a_missing_stream_is_not_like_a_silent_one() -> None:
    rows = rows_of(np.stack([hashes(1)[0]] * 5))
    rows[1]["audio_hash"] = rows[2]["audio_hash"] = None
    rows[3]["video_hash"] = rows[4]["video_hash"] = None
    found = NearDuplicates().gather(rows)
    assert [row.get("near_duplicate_of") for row in found] == [
        None, None, rows[1]["id"], None, rows[3]["id"],
    ]  # fmt: skip
    assert NearDuplicates().gather([]) == []
    nothing = {"id": "a", "video_hash": None, "audio_hash": None}
    assert NearDuplicates().gather([nothing, nothing]) == [{}, {}]


def test_hashing_finds_what_comparing_all_finds() -> None:
    rng = np.random.default_rng(1)
    bits = hashes(400, ones=0.3)
    for copy in range(200, 400):
        video, audio = rng.integers(0, 30, 2)
        bits[copy] = flipped(bits[rng.integers(200)], int(video), int(audio), copy)
    packed = np.packbits(bits, axis=1)
    found = copies(packed, 2, 0.08)
    kept: list[int] = []
    expected: dict[int, int] = {}
    for clip in range(400):
        counts = (bits[kept] != bits[clip]).reshape(-1, 2, 256).sum(axis=-1).max(axis=-1, initial=0)
        near = np.flatnonzero(counts <= 20) if kept else []
        if len(near):
            expected[clip] = kept[near[0]]
        else:
            kept.append(clip)
    assert len(expected) > 60
    assert len(set(expected.items()) & {(a, b) for a, (b, _) in found.items()}) >= 0.98 * len(
        expected
    )


def test_masses_of_equal_hashes_stay_cheap() -> None:
    bits = hashes(3000, ones=0.02)
    bits[1000:] = bits[7]
    tracemalloc.start()
    found = copies(np.packbits(bits, axis=1), 2, 0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {of for clip, (of, _) in found.items() if clip >= 1000} == {7}
    assert peak < 30e6


def test_a_share_that_joins_anything_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_share is 0\.5; give 0 to 0\.25"):
        NearDuplicates(max_share=0.5)
