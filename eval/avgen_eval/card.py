"""The table of figures in README.md and MODEL_CARD.md, written from the committed results.

Run ``python -m avgen_eval.card`` in a checkout after `make figures`; a test holds the documents to it.
"""

import json
import re
from pathlib import Path
from typing import Any

DOCUMENTS = ("README.md", "MODEL_CARD.md")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
BARS = {
    "sound_f1_60": ("sound events, F1 at 60 ms", "0.90"),
    "picture_f1_60": ("picture events, F1 at 60 ms", "0.90"),
    "objects_visible": ("frames with the described objects and no others", "0.95"),
    "attribute_colour": ("colour right", "0.95"),
    "attribute_pad": ("pad right", "0.95"),
    "pair_offset_abs_median_ms": ("A/V offset of events, median size, ms", "20"),
    "offset_abs_median_ms": ("A/V offset by cross-correlation, median size, ms", "20"),
}
OTHER_BARS = {
    ("talker", "attribute_vowel"): "0.85",
    ("talker", "correlation"): "0.80",
    ("engine", "correlation"): "0.90",
}
FURTHER = {
    "correlation": "picture against sound, correlation",
    "lag_ms": "at a lag in ms of",
    "sound_correlation": "sound against the truth, correlation",
}


def table(results: Path) -> str:
    """The table as Markdown, from the results of `make figures bench`.

    Raises:
        FileNotFoundError: A result is missing.
    """
    read: dict[str, Any] = {
        name: json.loads((results / f"{name}.json").read_text())
        for name in (
            "worlds-tiny",
            "worlds-tiny-untimed",
            "worlds-tiny-others",
            "codecs-tiny",
            "speed",
        )
    }
    timed = read["worlds-tiny"]["results"]["generated"]
    untimed = read["worlds-tiny-untimed"]["results"]["generated"]
    count = read["worlds-tiny"]["settings"]["count"]
    lines = [
        f"Shipped weights on {2 * count} held-out captions ({count} each of `bounce` and `drums`), 64x64,",
        "2 s, by the worlds' detectors; 95% intervals over clips; the last column is the bar to reach:",
        "",
        "| figure | bounce | drums | both | event times removed | bar |",
        "|---|---|---|---|---|---|",
    ]
    for key, (label, bar) in BARS.items():
        cells = [_cell(timed["worlds"][world].get(key)) for world in ("bounce", "drums", "all")]
        lines.append(
            f"| {label} | {' | '.join(cells)} | {_cell(untimed['worlds']['all'].get(key))} | {bar} |"
        )
    codecs = read["codecs-tiny"]["results"]["codecs"]["worlds"]
    psnr = ", ".join(
        f"`{world}` {figures['psnr_db']['value']:.1f}" for world, figures in codecs.items()
    )
    step, clip = read["speed"]["training_step"], read["speed"]["generation"]
    low, high = step["ratio_quartiles"]
    return "\n".join(
        [
            *lines,
            "",
            _others(read["worlds-tiny-others"]),
            f"Video VAE, PSNR in dB: {psnr}. Audio codec: 90% of onsets move by at most "
            f"{codecs['bounce']['onset_error_p90_ms']['value']:.1f} ms (`bounce`) and "
            f"{codecs['drums']['onset_error_p90_ms']['value']:.1f} ms (`drums`).",
            f"One clip of 2 s takes {clip['clip_seconds_median']:.1f} s "
            f"(worst {clip['clip_seconds_worst']:.1f}) on {step['threads']} threads. A training step at "
            f"batch {step['batch']} takes {step['ours_seconds_median']:.2f} s; the same step with "
            f"diffusers' LTX-2 transformer of equal size {step['ratio_peer_over_ours_median']:.2f} times "
            f"as long (quartiles {low:.2f} to {high:.2f}), and with attention aligned, as in the weights that ship, "
            f"{step['ratio_aligned_over_ours_median']:.2f} times.",
            "Files and commands: `eval/results/`, `make figures bench`.",
        ]
    )


def _others(result: dict[str, Any]) -> str:
    """The two worlds of sounds that last, a sentence each."""
    worlds = result["results"]["generated"]["worlds"]
    told = []
    for world in result["settings"]["worlds"]:
        figures = worlds[world]
        named = {
            # A detector that reports no moments has no precision, and its F1 says nothing.
            **{
                f"{stream} F1": figures.get(f"{stream}_f1_60")
                for stream in ("sound", "picture")
                if f"{stream}_precision_60" in figures
            },
            "described objects and no others": figures.get("objects_visible"),
        }
        named |= {
            f"{key.removeprefix('attribute_').replace('_', ' ')} right{_bar(world, key)}": figure
            for key, figure in figures.items()
            if key.startswith("attribute_")
        }
        named |= {f"{label}{_bar(world, key)}": figures.get(key) for key, label in FURTHER.items()}
        cells = ", ".join(f"{name} {_cell(figure)}" for name, figure in named.items() if figure)
        told.append(f"`{world}`: {cells}")
    return f"{result['settings']['count']} captions each of two more worlds. {'. '.join(told)}."


def _bar(world: str, key: str) -> str:
    return f" (bar {OTHER_BARS[world, key]})" if (world, key) in OTHER_BARS else ""


def update(root: Path) -> None:
    """Rewrite the tables in the documents of a checkout."""
    content = table(root / "eval" / "results")
    for name in DOCUMENTS:
        path = root / name
        path.write_text(replaced(path.read_text(), content))


def replaced(document: str, content: str) -> str:
    """The document with what stands between the markers replaced.

    Raises:
        ValueError: It has no markers.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(document):
        raise ValueError(
            f"no {BEGIN} ... {END} in the document; put the two markers where the table belongs"
        )
    return pattern.sub(lambda _: f"{BEGIN}\n{content}\n{END}", document)


def _cell(figure: dict[str, Any] | None) -> str:
    if not figure or figure["value"] is None:
        return "n/a"
    digits = 0 if figure["unit"] == "ms" else 2
    return (
        f"{figure['value']:.{digits}f} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"
    )


if __name__ == "__main__":
    update(Path.cwd())
