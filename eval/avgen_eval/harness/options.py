"""Options of the verbs that take clips, and how a run is called."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

CACHE = "AVGEN_EVAL_CACHE"
CLIPS = "manifest (.jsonl), or files and folders of clips"


def sources_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """The parser of `run`, `extract` and `score`."""
    parser = argparse.ArgumentParser(prog=f"avgen eval {verb}", description=description)
    add = parser.add_argument
    add("clips", type=Path, nargs="+", metavar="CLIPS", help=CLIPS)
    add("--ref", type=Path, help="folder of references with the same names")
    add("--suite", default="smoke", help="names or files, separated by commas (%(default)s)")
    add("--cache", type=Path, default=_default_cache(), help="of what was measured (%(default)s)")
    add("--workers", type=int, default=0, help="processes; 0 works in this one")
    add("--limit", type=int, default=0, help="only the first clips, to try something out")
    if verb != "extract":
        about = (
            "folder for result.json, records.parquet and clips.jsonl (eval_NAME, in this folder)"
        )
        add("--out", type=Path, help=about)
        add("--name", help="label of the run (the name of the clips)")
        add("--report", type=Path, metavar="FILE", help="also write an HTML page, see `report`")
        add("--strict", action="store_true", help="exit with 1 if any clip has a finding")
        group = parser.add_argument_group(
            "metrics whose weights you bring",
            "see docs/metrics-with-weights.md and `avgen eval ls`",
        )
        add = group.add_argument
        add("--metric", action="append", default=[], metavar="NAME", help="repeatable")
        add("--weights", action="append", default=[], metavar="NAME=PATH[#sha256=HEX]")
        add("--allow-download", action="store_true", help="fetch weights that are found nowhere")
        add("--non-commercial", action="store_true", help="accept licences that ask for it")
    return parser


def name_run(options: argparse.Namespace) -> None:
    """Name the run and its folder.

    Raises:
        ValueError: The folder was not chosen, and holds the result of other clips.
    """
    first, more = options.clips[0], len(options.clips) - 1
    stem = first.resolve().name if first.is_dir() else first.stem
    options.name = options.name or (f"{stem}_and_{more}_more" if more else stem)
    if options.out is not None:
        return
    options.out = Path(f"eval_{options.name.replace('/', '_')}")
    try:
        content = json.loads((options.out / "result.json").read_text(encoding="utf-8"))
        other = content["data"]["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if other != source_of(options.clips):
        raise ValueError(
            f"{options.out} holds the result of {other}; name another folder with --out"
        )


def source_of(clips: Sequence[Path]) -> str:
    """Where clips come from, in words."""
    return " ".join(map(str, clips))


def _default_cache() -> Path:
    chosen = os.environ.get(CACHE)
    return Path(chosen) if chosen else Path.home() / ".cache" / "avgen" / "eval"
