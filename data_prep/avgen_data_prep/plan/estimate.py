"""From a corpus, rates and prices to bytes, hours, tokens and money, each line with what it rests on."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from avgen_data_prep.plan.corpus import Corpus
from avgen_data_prep.plan.measured import CaptionTokens
from avgen_data_prep.plan.prices import Prices
from avgen_data_prep.plan.ranges import Range
from avgen_data_prep.plan.rates import SPEED, Rates
from avgen_data_prep.plan.result import Line, Plan
from avgen_data_prep.plan.storage import AudioLatents, TextFeatures, VideoLatents

TERABYTE = 1e12
_MILLION = 1e6
_BUSY = 0.9
_FEW = 30


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be planned.

    Attributes:
        corpus: Of what.
        prices: At which prices.
        rates: Rates by kind of worker; a stage goes to the kind that does it for the least money.
        video: Video latents to store; None stores none.
        audio: Audio latents to store.
        text: Text features to store.
        keep_sources: Whether the sources stay in the store.
        keep_media: Whether the clips' files go into the dataset.
        months: How long all is stored.
        transfers: How many times the dataset is sent, by kind of transfer.
        deadline_days: Days in which the stages must be done.
        captioner: Model of the prices that captions the clips; None: a stage does it, or nobody.
        tokens: What it takes and gives.

    Raises:
        ValueError: A time that is not above 0, or a captioner whose tokens are not known.
    """

    corpus: Corpus
    prices: Prices
    rates: Mapping[str, Rates]
    video: VideoLatents | None = None
    audio: AudioLatents | None = None
    text: TextFeatures | None = None
    keep_sources: bool = True
    keep_media: bool = True
    months: float = 1.0
    transfers: Mapping[str, float] = field(default_factory=dict)
    deadline_days: float | None = None
    captioner: str | None = None
    tokens: CaptionTokens | None = None

    def __post_init__(self) -> None:
        times = {"months": self.months, **{f"transfer {k}": v for k, v in self.transfers.items()}}
        if self.deadline_days is not None:
            times["deadline"] = self.deadline_days
        for name, value in times.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value:g}; give a number above 0")
        if self.captioner is not None and self.tokens is None:
            raise ValueError(
                f"nothing says how many tokens {self.captioner} takes for a clip: give --caption-tokens "
                "IN OUT, or caption some clips with it (stage captions, captioner chat) by "
                "`avgen prep run FOLDER WORK --limit 20` and plan with --data WORK"
            )


def make_plan(request: Request) -> Plan:
    """All lines of a request.

    Raises:
        ValueError: A price or a rate that is needed is missing, or the deadline cannot be met.
    """
    stored = storage_lines(request)
    work = work_lines(request)
    lines = (
        *stored,
        *transfer_lines(request, stored),
        *work,
        *caption_lines(request),
        *worker_lines(request, work),
    )
    return Plan(currency=request.prices.currency, lines=lines, notes=tuple(_notes(request, lines)))


def storage_lines(request: Request) -> tuple[Line, ...]:
    """Bytes of each thing that is stored, and what they cost for the months asked for."""
    corpus, price = request.corpus, request.prices["storage"]
    months = f"{request.months:g} month{'' if request.months == 1 else 's'}"
    sizes: list[tuple[str, float, str]] = []
    if request.keep_sources:
        sizes.append(("sources", corpus.source_bytes, corpus.sources_from))
    if request.keep_media:
        sizes.append(("clips", corpus.clip_bytes, corpus.clip_bytes_from))
    for name, shape in (("video latents", request.video), ("audio latents", request.audio)):
        if shape is not None:
            size = sum(shape.bytes_of(clips) for clips in corpus.clips)
            sizes.append(
                (name, size, f"computed for {shape.dtype}, {_shape(shape)}; {corpus.clips_from}")
            )
    if request.text is not None:
        size = request.text.bytes_of(corpus.num_clips * corpus.captions_per_clip)
        told = f"computed for {request.text.dtype}, {_shape(request.text)}"
        captions = f"{corpus.captions_per_clip:.3g} captions a clip"
        sizes.append(("text features", size, f"{told}, {captions}; {corpus.clips_from}"))
    return tuple(
        Line(
            part="storage",
            name=name,
            amount=Range.exactly(size),
            unit="bytes",
            cost=price.price * (size / TERABYTE * request.months),
            rests_on=f"{basis}; {months} at {price.rests_on()}",
            price=price.name,
        )
        for name, size, basis in sizes
    )


def transfer_lines(request: Request, stored: tuple[Line, ...]) -> tuple[Line, ...]:
    """Bytes of the dataset (all that is stored but the sources), and what sending them costs."""
    size = sum(line.amount.mid for line in stored if line.name != "sources")
    lines = []
    for kind, times in request.transfers.items():
        price = request.prices[f"transfer.{kind}"]
        line = Line(
            part="transfer",
            name=f"dataset, {kind}",
            amount=Range.exactly(size * times),
            unit="bytes",
            cost=price.price * (size * times / TERABYTE),
            rests_on=f"stored bytes without sources, {times:g} times (given); {price.rests_on()}",
            price=price.name,
        )
        lines.append(line)
    return tuple(lines)


def work_lines(request: Request) -> tuple[Line, ...]:
    """Hours of a worker for each stage, and what they cost.

    Raises:
        ValueError: A kind of worker has no price, or there are no rates.
    """
    if not request.rates:
        raise ValueError(
            f"no measured rates: run `{SPEED}` on some of the footage and give --rates rates.json"
        )
    names = dict.fromkeys(name for rates in request.rates.values() for name in rates.stages)
    return tuple(_cheapest(request, name) for name in names)


def _cheapest(request: Request, stage: str) -> Line:
    lines = []
    for kind, rates in request.rates.items():
        if stage in rates.stages:
            lines.append(_work_line(request, stage, kind, rates))
    return min(lines, key=lambda line: line.cost.mid if line.cost else 0.0)


def _work_line(request: Request, stage: str, kind: str, rates: Rates) -> Line:
    rate, price = rates.stages[stage], request.prices[f"worker.{kind}"]
    # What the process waited for its core is either the stage's own waiting, or another program's work.
    waited = Range(rates.core_share or 1.0, 1.0, 1.0)
    hours, growth = rate.hours(request.corpus) * waited, rate.growth(request.corpus)
    basis = (
        f"measured {rates.date} in {rates.place} ({rate.rows} {rate.of} in {rate.seconds:.3g} s)"
    )
    if growth.low != growth.high:
        basis += f"; from no growth with pixels to {growth.low * growth.high:.3g} times the time"
    return Line(
        part="work",
        name=f"{stage}, {kind}",
        amount=hours,
        unit="hours",
        cost=hours * price.price,
        rests_on=f"{basis}; {price.rests_on()}",
        price=price.name,
    )


def worker_lines(request: Request, work: tuple[Line, ...]) -> tuple[Line, ...]:
    """How many workers of each kind meet the deadline; without one, how long a single one takes.

    Raises:
        ValueError: The deadline cannot be met: a source is worked on by one worker at a time.
    """
    hours: dict[str, Range] = {}
    for line in work:
        kind = _kind(line)
        hours[kind] = hours.get(kind, Range.exactly(0.0)) + line.amount
    days = request.deadline_days
    if days is None:
        lines = [(f"one {kind}", amount * (1 / 24), "days") for kind, amount in hours.items()]
        return tuple(_workers(*line, "the hours above, without a deadline") for line in lines)
    for kind, amount in hours.items():
        least = amount.low / 24 / request.corpus.num_sources
        if days < least:
            raise ValueError(
                f"a deadline of {days:g} days cannot be met: a file is one worker's at a time, and with a "
                f"{kind} for each of {request.corpus.num_sources:.0f} files it takes {least:.2g} days "
                "or more; give more days, or shorter files"
            )
    told = f"the hours above in {days:g} days (given), all workers busy all the time"
    return tuple(
        _workers(kind, _whole(amount, days), "workers", told) for kind, amount in hours.items()
    )


def _workers(name: str, amount: Range, unit: str, rests_on: str) -> Line:
    return Line(part="workers", name=name, amount=amount, unit=unit, cost=None, rests_on=rests_on)


def _whole(hours: Range, days: float) -> Range:
    return Range(*(float(max(1, math.ceil(value / 24 / days))) for value in hours.to_list()))


def caption_lines(request: Request) -> tuple[Line, ...]:
    """Tokens that the captioner takes and gives, and what they cost."""
    if request.captioner is None or request.tokens is None:
        return ()
    count = request.corpus.num_clips
    lines = []
    for kind, tokens in (("input", request.tokens.input), ("output", request.tokens.output)):
        price = request.prices[f"caption.{request.captioner}.{kind}"]
        line = Line(
            part="captions",
            name=f"{request.captioner}, {kind}",
            amount=tokens * count,
            unit="tokens",
            cost=tokens * (count / _MILLION) * price.price,
            rests_on=f"{tokens.mid:.4g} a clip, {request.tokens.rests_on}; {price.rests_on()}",
            price=price.name,
        )
        lines.append(line)
    return tuple(lines)


def _notes(request: Request, lines: tuple[Line, ...]) -> list[str]:
    prices = [request.prices[n] for n in dict.fromkeys(line.price for line in lines) if n]
    unchecked = [price for price in prices if not price.checked]
    notes = [
        "bounds of hours hold the mean of the rows with 95 %, as if rows spread as widely as their mean "
        "is large; sums take all lower bounds together, and all upper ones",
        *(f"to be checked: {p.name} of {p.date}: {p.source}" for p in unchecked),
    ]
    for kind, rates in request.rates.items():
        few = min(rate.rows for rate in rates.stages.values())
        if few < _FEW:
            notes.append(
                f"{rates.place}: a stage saw only {few} rows; with more the bounds are closer"
            )
        if rates.core_share is not None and rates.core_share < _BUSY:
            notes.append(
                f"{rates.place}: the process had {rates.core_share:.0%} of its core when the rates of "
                f"{kind} were measured, so the lower bounds of hours are as much lower; where that was "
                "for other programs, measure again on an idle machine"
            )
        notes += [_gather_note(name, told) for name, told in rates.gathers.items()]
    if len({_kind(line) for line in lines if line.part == "work"}) > 1:
        notes.append(
            "kinds of workers are planned to work at the same time, each on its own folder"
        )
    sources = request.corpus.num_sources
    if any(line.unit == "workers" and line.amount.high > sources for line in lines):
        notes.append(
            f"at the upper bound there are more workers than the {sources:.0f} files: a file is one "
            "worker's at a time, so the deadline may be missed"
        )
    return list(dict.fromkeys(notes))


def _kind(line: Line) -> str:
    """Kind of worker of a line of work."""
    return (line.price or "").removeprefix("worker.")


def _gather_note(name: str, told: tuple[int, float] | None) -> str:
    took = f"took {told[1]:.2g} s for {told[0]} clips" if told else "was not measured"
    return f"{name} compares all clips in one process at the end and is not planned: it {took}"


def _shape(shape: VideoLatents | AudioLatents | TextFeatures) -> str:
    numbers = {name: value for name, value in asdict(shape).items() if name != "dtype"}
    return ", ".join(f"{name} {value:g}" for name, value in numbers.items())
