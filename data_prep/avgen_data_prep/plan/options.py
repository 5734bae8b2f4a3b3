"""A plan from the options of ``avgen plan --data``."""

import argparse
from pathlib import Path

from avgen_data_prep.cli_pipeline import WORK
from avgen_data_prep.pipeline.manifest import MANIFEST
from avgen_data_prep.plan.command import CORE
from avgen_data_prep.plan.corpus import load_corpus
from avgen_data_prep.plan.estimate import Request, make_plan
from avgen_data_prep.plan.measured import CaptionTokens, measured_corpus, measured_tokens
from avgen_data_prep.plan.prices import load_prices
from avgen_data_prep.plan.ranges import Range
from avgen_data_prep.plan.rates import Rates, read_rates
from avgen_data_prep.plan.result import Plan
from avgen_data_prep.plan.storage import AudioLatents, TextFeatures, VideoLatents


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that is asked for.

    Raises:
        ValueError: Something that it needs is missing or wrong.
    """
    folder = _run_folder(options.data)
    corpus = load_corpus(options.data) if folder is None else measured_corpus(folder)
    request = Request(
        corpus=corpus if options.hours is None else corpus.scaled(options.hours),
        prices=load_prices(options.prices),
        rates=_rates(options, folder),
        video=None
        if options.video_latents == "none"
        else VideoLatents.parse(options.video_latents),
        audio=None
        if options.audio_latents == "none"
        else AudioLatents.parse(options.audio_latents),
        text=None if options.text_features == "none" else TextFeatures.parse(options.text_features),
        keep_sources=not options.no_sources,
        keep_media=not options.no_media,
        months=options.months,
        transfers=_transfers(options.transfer or ["cross_region=1"]),
        deadline_days=options.deadline,
        captioner=options.captioner,
        tokens=_tokens(options, folder) if options.captioner else None,
    )
    return make_plan(request)


def _run_folder(path: Path) -> Path | None:
    """The folder of a run, also where a dataset of `avgen prep ingest` holds one; None for a file."""
    if not path.exists():
        raise ValueError(f"{path}: no such file; give the folder of a run, or a YAML file")
    if path.is_file():
        return None
    within = path / WORK
    return within if (within / MANIFEST).is_file() else path


def _rates(options: argparse.Namespace, folder: Path | None) -> dict[str, Rates]:
    paths = dict(_pair(text) for text in options.rates)
    if folder is not None and not paths:
        paths = {CORE: str(folder)}
    wanted = options.workers_kind or list(paths)
    missing = [kind for kind in wanted if kind not in paths]
    if missing:
        raise ValueError(
            f"no rates of {', '.join(missing)}: on such a worker run `python -m "
            f"avgen_data_prep.pipeline.speed FOLDER --json FILE` and give --rates {missing[0]}=FILE"
        )
    return {kind: read_rates(Path(paths[kind])) for kind in wanted}


def _pair(text: str) -> tuple[str, str]:
    kind, found, path = text.partition("=")
    return (kind, path) if found else (CORE, text)


def _transfers(given: list[str]) -> dict[str, float]:
    transfers: dict[str, float] = {}
    for text in given:
        kind, _, times = text.partition("=")
        if kind == "none":
            continue
        try:
            transfers[kind] = float(times or 1)
        except ValueError:
            raise ValueError(f"--transfer {text!r}: give KIND, or KIND=TIMES") from None
    return transfers


def _tokens(options: argparse.Namespace, folder: Path | None) -> CaptionTokens | None:
    if options.caption_tokens is None:
        return None if folder is None else measured_tokens(folder)
    given, taken = (Range.exactly(value) for value in options.caption_tokens)
    return CaptionTokens(input=given, output=taken, rests_on="given")
