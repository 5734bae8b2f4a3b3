"""Measure the audio codec on held-out clips of the worlds: onsets, log-mel distance, robustness to noise.

python benchmarks/audio_codec.py WEIGHTS.safetensors --clips 64 --noise 0.1 > result.json
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from avgen_data_prep.worlds import WORLDS
from scipy.optimize import linear_sum_assignment
from scipy.signal import find_peaks

from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.objective.spectral import log_mel_distance, magnitudes

HELD_OUT = 1_000_000
REACH = 0.05
HOP = 16


def onsets(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Seconds at which the short-time spectrum rises sharply (4 ms windows, 1 ms steps)."""
    spectrum = magnitudes(torch.from_numpy(waveform)[None, None], 64, HOP)[0].numpy()
    loudness = np.log1p(300 * spectrum)
    rise = np.maximum(loudness[:, 4:] - loudness[:, :-4], 0).mean(0)
    rise = np.convolve(rise, np.hanning(7)[1:-1] / 3, mode="same")
    peaks, _ = find_peaks(rise, height=0.25, prominence=0.2, distance=int(0.03 * sample_rate / HOP))
    return (peaks + 2) * HOP / sample_rate


def match(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Signed shifts in seconds of optimally matched times at most `REACH` apart."""
    if not len(found) or not len(wanted):
        return np.zeros(0)
    shift = np.asarray(found)[:, None] - np.asarray(wanted)[None]
    rows, columns = linear_sum_assignment(np.where(np.abs(shift) <= REACH, np.abs(shift), 1.0))
    pairs = shift[rows, columns]
    return pairs[np.abs(pairs) <= REACH]


def onset_figures(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Figures of decoded onsets against those of the original."""
    shifts = np.concatenate([match(found, wanted) for found, wanted in pairs])
    wanted, found = (sum(len(pair[i]) for pair in pairs) for i in (1, 0))
    if not len(shifts):
        return {"onsets": wanted, "recall": 0.0}
    size = 1000 * np.abs(shifts)
    return {
        "onsets": wanted,
        "median_ms": round(float(np.median(size)), 2),
        "p95_ms": round(float(np.quantile(size, 0.95)), 2),
        "mean_signed_ms": round(float(1000 * shifts.mean()), 2),
        "share_within_10ms": round(float((size <= 10).sum() / max(1, wanted)), 4),
        "recall": round(len(shifts) / max(1, wanted), 4),
        "precision": round(len(shifts) / max(1, found), 4),
    }


def truth_times(truth: dict) -> np.ndarray:
    """Seconds of the events of a clip."""
    return np.array([event["time"] for event in truth["events"] if "time" in event])


@torch.inference_mode()
def measure(codec: SeanetAudioCodec, world: str, clips: int, noise: float) -> dict:
    """All figures of one world."""
    examples = [WORLDS[world].render(HELD_OUT + i, size=64) for i in range(clips)]
    waveform = torch.stack([torch.from_numpy(e.clip.waveform) for e in examples])
    latents = codec.encode(waveform)
    generator = torch.Generator().manual_seed(0)
    noisy = latents + noise * torch.randn(latents.shape, generator=generator)
    decoded = {"decoded": codec.decode(latents), "decoded_with_noise": codec.decode(noisy)}
    rate = codec.sample_rate
    original = [onsets(w[0].numpy(), rate) for w in waveform]
    result: dict = {
        "latent_mean": round(float(latents.mean()), 3),
        "latent_std": round(float(latents.std()), 3),
    }
    for name, sound in decoded.items():
        sound = sound[..., : waveform.shape[-1]]
        found = [onsets(s[0].numpy(), rate) for s in sound]
        figures = onset_figures(list(zip(found, original, strict=True)))
        figures["log_mel_distance"] = round(float(log_mel_distance(sound, waveform, rate)), 3)
        events = [truth_times(e.truth) for e in examples]
        detected = [
            np.array(WORLDS[world].detect(_with_sound(e.clip, s), e.truth).sound_times)
            for e, s in zip(examples, sound.numpy(), strict=True)
        ]
        figures["world_detector"] = onset_figures(list(zip(detected, events, strict=True)))
        result[name] = figures
    detected = [np.array(WORLDS[world].detect(e.clip, e.truth).sound_times) for e in examples]
    events = [truth_times(e.truth) for e in examples]
    result["original_world_detector"] = onset_figures(list(zip(detected, events, strict=True)))
    return result


def _with_sound(clip, waveform: np.ndarray):
    return replace(clip, waveform=waveform)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--worlds", nargs="+", default=sorted(WORLDS))
    arguments = parser.parse_args()
    codec = SeanetAudioCodec.from_file(arguments.weights)
    figures = {w: measure(codec, w, arguments.clips, arguments.noise) for w in arguments.worlds}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
