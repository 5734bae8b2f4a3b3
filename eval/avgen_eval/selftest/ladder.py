"""Ladders of known damage, which values should notice which, and the clips that are damaged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avgen.caption import TimedCaption
from avgen.clip import Clip
from avgen_eval import damage
from avgen_eval.known import HELD_OUT_SEED, get_world
from avgen_eval.requested import requested_moments

SHIFTS_MS = (20, 40, 80, 160, 320)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A clip to damage.

    Attributes:
        clip: The render.
        partner: Another clip of its world.
        caption: What happens in it.
        times: Seconds at which its sounds begin.
        seed: Of the damage.
    """

    clip: Clip
    partner: Clip
    caption: TimedCaption
    times: list[float]
    seed: int

    @property
    def generator(self) -> np.random.Generator:
        """The same each time."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step of a ladder of damage; level 0 does not occur, it is the whole clip."""

    damage: str
    level: float
    apply: Callable[[Case], Clip]


def _rungs(name: str, levels: Sequence[float], apply: Callable[[Case, float], Clip]) -> list[Rung]:
    return [
        Rung(damage=name, level=level, apply=lambda case, level=level: apply(case, level))
        for level in levels
    ]


LADDER: tuple[Rung, ...] = (
    *_rungs("sound late (ms)", SHIFTS_MS, lambda c, v: damage.shift_sound(c.clip, v)),
    *_rungs("sound early (ms)", SHIFTS_MS, lambda c, v: damage.shift_sound(c.clip, -v)),
    *_rungs("sound stretched (%)", (2,), lambda c, v: damage.stretch_sound(c.clip, 1 + v / 100)),
    *_rungs("sound of another clip", (1,), lambda c, v: damage.exchange_sound(c.clip, c.partner)),
    *_rungs(
        "sound events dropped (share)",
        (0.25, 0.5),
        lambda c, v: damage.drop_events(c.clip, c.times, v, c.generator)[0],
    ),
    *_rungs(
        "sound events added",
        (1, 2),
        lambda c, v: damage.add_events(c.clip, c.times, int(v), c.generator)[0],
    ),
    *_rungs("muted", (1,), lambda c, v: damage.mute(c.clip)),
    *_rungs(
        "noise on sound (-dB)",
        (-30, -20, -10),
        lambda c, v: damage.add_noise_to_sound(c.clip, -v, c.generator),
    ),
    *_rungs(
        "low-pass (-kHz)", (-3, -1.5, -0.75), lambda c, v: damage.low_pass_sound(c.clip, -1000 * v)
    ),
    *_rungs("picture frozen", (1,), lambda c, v: damage.freeze_picture(c.clip, 0.4)),
    *_rungs(
        "noise on picture (levels)",
        (2, 5, 12),
        lambda c, v: damage.add_noise_to_picture(c.clip, v, c.generator),
    ),
    *_rungs("blur (pixels)", (0.5, 1, 2), lambda c, v: damage.blur_picture(c.clip, v)),
)

WITNESSES: tuple[tuple[str, str, int], ...] = (
    *((f"sound {side} (ms)", "sync.offset_abs_ms", 1) for side in ("late", "early")),
    *((f"sound {side} (ms)", "sync.f1_graded_corrected", -1) for side in ("late", "early")),
    *((f"sound {side} (ms)", "sync.f1_corrected_60ms", -1) for side in ("late", "early")),
    *((f"sound {side} (ms)", "timing.sound_error_median_ms", 1) for side in ("late", "early")),
    *((f"sound {side} (ms)", "learned_sync.offset_abs_ms", 1) for side in ("late", "early")),
    *((f"sound {side} (ms)", "learned_sync.desync_ms", 1) for side in ("late", "early")),
    ("sound of another clip", "learned_sync.confidence", -1),
    ("sound of another clip", "learned_sync.desync_ms", 1),
    ("sound stretched (%)", "sync.drift_abs_ppm", 1),
    ("sound stretched (%)", "timing.sound_error_p90_ms", 1),
    ("sound of another clip", "sync.f1_graded_corrected", -1),
    ("sound of another clip", "sync.f1_corrected_60ms", -1),
    ("sound of another clip", "sync.offset_confidence", -1),
    ("sound of another clip", "timing.sound_f1_50ms", -1),
    ("sound events dropped (share)", "timing.sound_recall_50ms", -1),
    ("sound events dropped (share)", "sync.recall_60ms", -1),
    ("sound events added", "timing.sound_precision_50ms", -1),
    ("sound events added", "sync.precision_60ms", -1),
    ("muted", "signal.silence_share", 1),
    ("muted", "timing.sound_recall_50ms", -1),
    ("noise on sound (-dB)", "reconstruction.si_sdr_db", -1),
    ("noise on sound (-dB)", "reconstruction.log_mel_db", 1),
    ("low-pass (-kHz)", "signal.bandwidth_hz", -1),
    ("low-pass (-kHz)", "reconstruction.stft_log_magnitude", 1),
    ("picture frozen", "temporal.freeze_share", 1),
    ("picture frozen", "sync.f1_corrected_60ms", -1),
    ("noise on picture (levels)", "reconstruction.psnr_db", -1),
    ("noise on picture (levels)", "temporal.temporal_flickering", -1),
    ("blur (pixels)", "temporal.sharpness", -1),
    ("blur (pixels)", "reconstruction.ssim", -1),
)
"""Damage, the value that should notice it, and whether damage raises (1) or lowers (-1) the value."""

BLIND: tuple[tuple[str, str], ...] = (
    ("noise on picture (levels)", "timing.sound_f1_50ms"),
    ("blur (pixels)", "sync.offset_abs_ms"),
    ("low-pass (-kHz)", "timing.picture_f1_50ms"),
    ("sound late (ms)", "temporal.freeze_share"),
)
"""Damage that a value is not about."""


def make_cases(
    worlds: Sequence[str], count: int, *, seconds: float = 3.96, size: int = 64, fps: int = 25
) -> Iterator[Case]:
    """``count`` held-out clips of each world, each with the next one as its partner."""
    for name in worlds:
        world = get_world(name)
        options: dict[str, Any] = {"duration": seconds, "fps": fps, "size": size}
        following = world.render(HELD_OUT_SEED, sample_rate=16_000, **options)
        for index in range(count):
            seed = HELD_OUT_SEED + index
            example = following
            following = world.render(seed + 1, sample_rate=16_000, **options)
            caption = example.captions[0]
            yield Case(
                clip=example.clip,
                partner=following.clip,
                caption=caption,
                times=list(requested_moments(caption).sound),
                seed=seed,
            )
