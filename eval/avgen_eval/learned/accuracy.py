"""Accuracy of the learned offset metric on held-out clips: ``python -m avgen_eval.learned.accuracy``.

Each clip is cut at random offsets between -2.08 and 2.08 s, as in training, but from seeds that training never sees.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from avgen_eval.known import HELD_OUT_SEED, get_world
from avgen_eval.learned.sync import WEIGHTS, WINDOW, load_network
from avgen_eval.learned.sync_network import FPS, MAX_LAG, SAMPLE_RATE, SIZE, class_scores
from avgen_eval.learned.sync_training import draw_cuts, true_class
from avgen_eval.results import provenance, write_json
from avgen_eval.statistics import wilson_interval

WORLDS = ("bounce", "drums", "talker", "engine")
SECONDS = (WINDOW + MAX_LAG + 2) / FPS


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m avgen_eval.learned.accuracy", description=__doc__
    )
    parser.add_argument("--count", type=int, default=64, help="clips of each world (%(default)s)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    console, rows = Console(), {}
    for world in WORLDS:
        rows[world] = row = accuracy(world, options.count, options.weights)
        shown = ", ".join(f"{name} {value['value']:.3f}" for name, value in row["shares"].items())
        console.print(f"{world}: {shown}, median error {row['median_error_ms']:.0f} ms")
    if options.json:
        content = {"weights": load_network(options.weights)[1], "worlds": rows}
        write_json(options.json, {"provenance": provenance(), "sync_metric": content})
    return 0


def accuracy(world: str, count: int, weights: Path = WEIGHTS) -> dict[str, Any]:
    """Shares of clips whose class is right, and right or next to it, with Wilson intervals; error in ms."""
    network, _ = load_network(weights)
    exact, near, errors = 0, 0, []
    for index in range(count):
        lag, scores = _scores(network, world, index)
        guess = int(class_scores(scores).argmax())
        distance = abs(guess - int(true_class(lag)))
        exact, near = exact + (distance == 0), near + (distance <= 1)
        errors.append(abs(int(scores.argmax()) - MAX_LAG - int(lag)) * 1000 / FPS)
    shares = {"exact": wilson_interval(exact, count), "within_one": wilson_interval(near, count)}
    return {
        "count": count,
        "shares": {name: share.to_dict() for name, share in shares.items() if share},
        "median_error_ms": float(torch.tensor(errors).median()),
    }


@torch.inference_mode()
def _scores(network: Any, world: str, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """True lag in frames and the scores of all lags of one held-out clip."""
    options: dict[str, Any] = {"duration": SECONDS, "fps": FPS, "size": SIZE}
    clip = get_world(world).render(HELD_OUT_SEED + index, sample_rate=SAMPLE_RATE, **options).clip
    frames = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    batch = {"frames": frames, "waveform": torch.from_numpy(clip.waveform)[None]}
    pictures, sounds, lags = draw_cuts(batch, WINDOW, torch.Generator().manual_seed(index))
    return lags[0], network(pictures, sounds)[0]


if __name__ == "__main__":
    sys.exit(main())
