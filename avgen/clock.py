"""The only conversion between seconds, frames, audio samples, latent steps and tokens.

Seconds are the one coordinate of avgen. A *view* of time (frames at a rate, latent steps of a
codec) is converted here and nowhere else. Intervals are half-open, ``[start, end)``, in seconds.
"""

from fractions import Fraction

Rate = int | float | Fraction

MICROSECONDS = 1_000_000


def seconds_from_us(microseconds: int) -> float:
    """Integer microseconds to seconds."""
    return microseconds / MICROSECONDS


def us_from_seconds(seconds: float | Fraction) -> int:
    """Seconds to integer microseconds, rounded to nearest.

    Raises:
        ValueError: Not a finite number.
    """
    return round(_exact(seconds, "seconds") * MICROSECONDS)


def _exact(value: float | Fraction, what: str) -> Fraction:
    try:
        return Fraction(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{what} is {value}; give a finite number") from None


def as_rate(rate: Rate) -> Fraction:
    """An exact rate per second; 29.97 becomes 30000/1001 and 23.976 becomes 24000/1001.

    Raises:
        ValueError: The rate is not a positive finite number, or below one per 10,000 seconds.
    """
    exact = _exact(rate, "rate")
    if exact.denominator > 10_000:
        ntsc = Fraction(round(float(exact) * 1.001) * 1000, 1001)
        close = ntsc >= 1 and abs(ntsc - exact) < Fraction(1, 200)
        exact = ntsc if close else exact.limit_denominator(10_000)
    if exact <= 0:
        raise ValueError(f"rate {rate} must be positive; give frames or samples per second")
    return exact


def count(duration: float | Fraction, rate: Rate) -> int:
    """Steps of ``rate`` nearest to ``duration`` seconds, at least one."""
    return max(1, round(Fraction(duration) * as_rate(rate)))


def duration(steps: int, rate: Rate) -> float:
    """Seconds that ``steps`` steps of ``rate`` last."""
    return float(Fraction(steps) / as_rate(rate))


def frames_on_grid(frames: int, time_stride: int) -> int:
    """The frame count nearest to ``frames`` of the form ``1 + k * time_stride`` (causal codecs)."""
    return 1 + max(0, round((frames - 1) / time_stride)) * time_stride


def latent_steps(frames: int, time_stride: int) -> int:
    """Latent steps of ``frames`` frames under a causal codec: the first frame has its own.

    Raises:
        ValueError: ``frames`` is not ``1 + k * time_stride``.
    """
    if frames < 1 or (frames - 1) % time_stride:
        raise ValueError(
            f"{frames} frames do not fit a codec with time stride {time_stride}: "
            f"use 1 + {time_stride}k frames, for example {frames_on_grid(frames, time_stride)}"
        )
    return 1 + (frames - 1) // time_stride


def frames_from_latent_steps(steps: int, time_stride: int) -> int:
    """Frames that ``steps`` latent steps of a causal codec decode to.

    Raises:
        ValueError: There is not at least one step.
    """
    if steps < 1:
        raise ValueError(f"{steps} latent steps decode to nothing; give at least 1")
    return 1 + (steps - 1) * time_stride


def latent_intervals(steps: int, time_stride: int, fps: Rate) -> list[tuple[float, float]]:
    """Seconds ``[start, end)`` of each latent step; the first covers a single frame."""
    frame = float(1 / as_rate(fps))
    rest = ((1 + time_stride * i, 1 + time_stride * (i + 1)) for i in range(steps - 1))
    return [(0.0, frame), *((a * frame, b * frame) for a, b in rest)]


def step_intervals(steps: int, rate: Rate) -> list[tuple[float, float]]:
    """Seconds ``[start, end)`` of each step of a constant rate (audio latents, frames)."""
    step = float(1 / as_rate(rate))
    return [(i * step, (i + 1) * step) for i in range(steps)]
