"""``avgen generate``: a clip from a timed caption.

Example: avgen generate "two balls on a stone floor" --event 0.4 "the red ball hits the floor" -o out.mp4
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from avgen.caption import Event, TimedCaption
from avgen.clip import Clip
from avgen.media import read_image

DEFAULT_EVENT = 0.1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="avgen generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompt", nargs="?", default="", help="description of the whole clip")
    parser.add_argument(
        "--event",
        nargs="+",
        action="append",
        default=[],
        metavar="TIME",
        help='START[-END] "TEXT" [TRACK]: what happens when, in seconds; may be repeated; '
        "without a track it is both seen and heard",
    )
    parser.add_argument(
        "--caption", type=Path, help="timed caption file: .json, .vtt, .srt or .txt"
    )
    parser.add_argument(
        "--duration", type=float, help="seconds (default 1.96, or that of what is given)"
    )
    parser.add_argument("--image", type=Path, help="picture to start from")
    parser.add_argument("--video", type=Path, help="video that gets a new sound")
    parser.add_argument("--audio", type=Path, help="sound that gets a picture")
    parser.add_argument("--prefix", type=Path, help="clip to continue; --duration includes it")
    parser.add_argument("--infill", type=Path, help="clip of which the --span is made anew")
    parser.add_argument(
        "--span", type=float, nargs=2, metavar=("START", "END"), help="of --infill, in seconds"
    )
    parser.add_argument(
        "--keep-given",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="what is given stays as it was; without, it comes out of the codecs too, and the seam shows less",
    )
    parser.add_argument("--weights", default="tiny", help="name, folder or hub id (%(default)s)")
    parser.add_argument("--steps", type=int, default=16, help="sampling steps (%(default)s)")
    parser.add_argument(
        "--solver",
        choices=["euler", "heun", "ancestral", "renoise"],
        default="renoise",
        help="how one noise level leads to the next (%(default)s)",
    )
    parser.add_argument(
        "--guidance",
        type=float,
        help="scale of text guidance in all steps, 1 for none (default: in the first)",
    )
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("-o", "--out", type=Path, default=Path("out.mp4"), help="(%(default)s)")
    return parser


def parse_event(words: list[str]) -> list[Event]:
    """Events of one ``--event`` option: its time or span, its text, and optionally its track.

    Raises:
        ValueError: It cannot be read; says how it is written.
    """
    usage = '--event is written START[-END] "TEXT" [TRACK], for example --event 0.4 "the red ball hits the floor"'
    if not 2 <= len(words) <= 3:
        raise ValueError(f"--event has {len(words)} parts; {usage}")
    first, dash, last = words[0].partition("-")
    try:
        start = float(first)
        end = float(last) if dash else start + DEFAULT_EVENT
    except ValueError:
        raise ValueError(f"--event time {words[0]!r} is not a number of seconds; {usage}") from None
    tracks = [words[2]] if len(words) == 3 else ["visual", "sfx"]
    return [Event.at(start, end, words[1], track) for track in tracks]  # type: ignore[arg-type]


def caption_of(options: argparse.Namespace) -> tuple[str, tuple[Event, ...], float | None]:
    """Prompt, events and duration from the options and the caption file."""
    events = [event for words in options.event for event in parse_event(words)]
    if options.caption is None:
        return options.prompt, tuple(events), options.duration
    caption = TimedCaption.open(options.caption, duration=options.duration)
    return (
        options.prompt or caption.text,
        (*caption.events, *events),
        options.duration or caption.duration,
    )


def main(argv: list[str]) -> int:
    """Generate and write one clip."""
    parser = _parser()
    options = parser.parse_args(argv)
    prompt, events, duration = caption_of(options)
    if not prompt and not events:
        parser.error("give a prompt, --event or --caption")
    given = {
        name: Clip.open(path)
        for name in ("video", "audio", "prefix", "infill")
        if (path := getattr(options, name))
    }
    image = None if options.image is None else read_image(options.image)

    from avgen.pipeline import AVPipeline

    console = Console(stderr=True)
    pipe = AVPipeline.from_pretrained(options.weights, device=options.device)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("generating", total=options.steps)
        clip = pipe(
            prompt,
            events=events,
            duration=duration,
            image=image,
            **given,
            span=options.span and tuple(options.span),
            seed=options.seed,
            keep_given=options.keep_given,
            steps=options.steps,
            solver=options.solver,
            guidance=options.guidance,
            progress=lambda step, total: bar.update(task, completed=step, total=total),
        )
    clip.save(options.out)
    console.print(f"{options.out}: {clip!r}", highlight=False, soft_wrap=True)
    return 0
