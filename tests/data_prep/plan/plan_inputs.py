"""Corpora, prices and rates with round numbers, whose plans can be worked out by hand."""

from dataclasses import replace
from pathlib import Path

from avgen_data_prep.plan.corpus import Corpus, load_corpus
from avgen_data_prep.plan.prices import Prices, load_prices
from avgen_data_prep.plan.rates import Rates, StageRate

CORPUS = """
hours: 100
sources: {minutes: 30, mbps: 4.5, height: 720, width: 1280, fps: 24}
clips: {seconds: 8, mbps: 4.5, height: 720, width: 1280, fps: 24}
"""

PRICES = """
currency: EUR
prices:
  storage: {price: 20, date: 2026-10-01, checked: true, source: an offer}
  transfer.cross_region: {price: [10, 20, 30], date: 2026-10-02, checked: false, source: a rumour}
  worker.cpu-core: {price: 0.05, date: 2026-10-01, checked: true, source: an offer}
  worker.gpu-x: {price: 2, date: 2026-10-01, checked: true, source: an offer}
  caption.model.input: {price: 0.5, date: 2026-10-01, checked: true, source: an offer}
  caption.model.output: {price: 4, date: 2026-10-01, checked: true, source: an offer}
"""


def corpus(folder: Path, text: str = CORPUS) -> Corpus:
    path = folder / "corpus.yaml"
    path.write_text(text)
    return load_corpus(path)


def prices(folder: Path, text: str = PRICES) -> Prices:
    path = folder / "prices.yaml"
    path.write_text(text)
    return load_prices(path)


def stage_rate(**changes) -> StageRate:
    """A second of work for a second of footage, seen on 400 clips of 720p."""
    rate = StageRate(
        of="clips", rows=400, seconds=3200.0, row_seconds=8.0, pixel_rate=1280 * 720 * 24.0
    )
    return replace(rate, **changes)


def rates(**stages: StageRate) -> Rates:
    return Rates(stages=stages, place="rates.json", date="2026-11-22", machine="a machine")
