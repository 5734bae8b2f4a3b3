"""From a run, a kind of GPU and prices to operations, memory, speed, hours and money."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from avgen.model.cost import PRECISIONS, Flops, Step, orthogonal_flops, step_flops, text_flops
from avgen.model.dual_stream import DualStreamTransformer
from avgen.text.base import TextEncoder
from avgen.text.byte_encoder import ByteTextEncoder
from avgen.training.optim import build_optimizer
from avgen_data_prep.plan.model.gpus import GIB, Gpu
from avgen_data_prep.plan.model.memory import Memory, Sharding, memory_of
from avgen_data_prep.plan.model.run import Clip, Recipe, build, step_of
from avgen_data_prep.plan.prices import Prices
from avgen_data_prep.plan.ranges import Range

SCHEMA = "avgen.plan.model/1"
STRATEGIES = ("ddp", "fsdp2")
ASSUMED = Range(0.2, 0.35, 0.5)
"""Share of the peak at which products run where nothing is measured: an assumption, as wide as reports differ."""
USABLE = 0.9
"""Share of the memory that is planned with; the rest is for CUDA itself, and for what cannot be filled."""
_MOST_GPUS = 4096
_RECOMPUTE = "--activation-checkpointing"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be planned.

    Attributes:
        recipe: What is trained.
        clip: Shape of the clips, where the recipe's data do not tell.
        text_tokens: Text tokens of a clip.
        gpu: On what.
        sharding: How many, and how they share the state.
        prices: What an hour costs.
        checkpointing: Whether blocks are computed again in the backward pass.
        mfu: Model FLOP utilisation; None takes what was measured on the GPU, or assumes.

    Raises:
        ValueError: Something that is no such number or name.
    """

    recipe: Recipe
    clip: Clip
    text_tokens: int
    gpu: Gpu
    sharding: Sharding
    prices: Prices
    checkpointing: bool = False
    mfu: float | None = None

    def __post_init__(self) -> None:
        if self.recipe.precision not in PRECISIONS:
            raise ValueError(
                f"precision {self.recipe.precision!r} cannot be planned; use one of "
                f"{', '.join(PRECISIONS)}"
            )
        if self.sharding.strategy not in STRATEGIES:
            raise ValueError(
                f"strategy {self.sharding.strategy!r} is unknown; use one of {', '.join(STRATEGIES)}"
            )
        steps = self.recipe.steps
        for name, value in (("gpus", self.sharding.gpus), ("accumulate", self.recipe.accumulate)):
            if value < 1:
                raise ValueError(f"{name} is {value}; give at least 1")
        if steps is not None and steps < 1:
            raise ValueError(f"steps is {steps}; give at least 1 with --steps")
        if self.mfu is not None and not 0 < self.mfu < 1:
            raise ValueError(f"mfu is {self.mfu:g}; give a share of the peak between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """All figures of a run.

    Attributes:
        name: Of the recipe or preset.
        setting: What was planned with, in words.
        parameters: Numbers by part.
        tokens: Of a clip by stream; ``text`` too.
        tokens_per_step: Of all clips, GPUs and micro batches, without text.
        flops: Operations of a step on one GPU by what they are for.
        memory: Of one GPU.
        peak: Bytes, without and with activation checkpointing.
        checkpointing: Which of the two is planned.
        limit: Bytes that may be filled.
        mfu: Model FLOP utilisation.
        mfu_from: What it rests on.
        steps_per_second: Of the optimiser.
        steps: Of the run.
        gpu_hours: Of the run.
        cost: Of the run; None without a price.
        currency: Of the cost.
        cost_from: What the cost rests on.
        advice: What would make it fit; empty where it does.
        notes: What is not counted, and what is doubtful.
    """

    name: str
    setting: str
    parameters: Mapping[str, int]
    tokens: Mapping[str, int]
    tokens_per_step: int
    flops: Mapping[str, int]
    memory: Memory
    peak: tuple[float, float]
    checkpointing: bool
    limit: float
    mfu: Range
    mfu_from: str
    steps_per_second: Range
    steps: int
    gpu_hours: Range
    cost: Range | None
    currency: str
    cost_from: str
    advice: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ranges are lists of low, middle and high."""
        data = {"schema": SCHEMA, **asdict(self)}
        for name in ("mfu", "steps_per_second", "gpu_hours", "cost"):
            value: Range | None = getattr(self, name)
            data[name] = value and value.to_list()
        data["tokens_per_second"] = (self.steps_per_second * self.tokens_per_step).to_list()
        return data


def make_plan(request: Request) -> ModelPlan:
    """All figures of a request.

    Raises:
        ValueError: The recipe's shapes do not fit together.
    """
    recipe = request.recipe
    model, text = build(recipe)
    step = step_of(recipe, model.config, request.clip, request.text_tokens)
    flops = _flops(model, text, step, request)
    useful = flops["network, products"] + flops["network, attention"] + flops["text encoder"]
    mfu, mfu_from = _utilisation(request, useful / sum(flops.values()))
    speed = mfu * (request.gpu.peak(recipe.precision) / useful)
    gpus, steps = request.sharding.gpus, recipe.steps or 1000
    per_hour = 3600 / gpus
    hours = Range(*(steps / (per_hour * rate) for rate in reversed(speed.to_list())))
    memory = _memory(model, text, step, request)
    peaks = (memory.peak(checkpointing=False), memory.peak(checkpointing=True))
    limit = USABLE * request.gpu.memory
    cost, cost_from = _cost(request, hours)
    return ModelPlan(
        name=recipe.name,
        setting=_setting(request),
        parameters=_parameters(model, text),
        tokens={**step.tokens, "text": step.text_tokens},
        tokens_per_step=step.num_tokens * gpus * recipe.accumulate,
        flops=flops,
        memory=memory,
        peak=peaks,
        checkpointing=request.checkpointing,
        limit=limit,
        mfu=mfu,
        mfu_from=mfu_from,
        steps_per_second=speed,
        steps=steps,
        gpu_hours=hours,
        cost=cost,
        currency=request.prices.currency,
        cost_from=cost_from,
        advice=_advice(model, text, step, request) if peaks[request.checkpointing] > limit else "",
        notes=tuple(_notes(request, text)),
    )


def _flops(
    model: DualStreamTransformer, text: TextEncoder | None, step: Step, request: Request
) -> dict[str, int]:
    """Operations of a step on one GPU."""
    network = step_flops(model.config, step) * request.recipe.accumulate
    encoder = Flops(0, 0)
    if isinstance(text, ByteTextEncoder):
        encoder = text_flops(text.width, len(text.layers), step) * request.recipe.accumulate
    modules = [model, *([text] if text is not None else [])]
    matrices = build_optimizer(modules, lr=1.0, weight_decay=0).param_groups[0]["params"]
    again = network.total // 3 if request.checkpointing else 0
    return {
        "network, products": network.products,
        "network, attention": network.attention,
        "text encoder": encoder.total,
        "computed again": again,
        "optimiser": orthogonal_flops([tuple(p.shape) for p in matrices]),
    }


def _utilisation(request: Request, useful: float) -> tuple[Range, str]:
    """Model FLOP utilisation, and what it rests on; ``useful`` is the share of forward and backward."""
    measured = request.gpu.mfu
    if request.mfu is not None:
        return Range.exactly(request.mfu), "given"
    if measured is not None and request.recipe.precision == "bf16-mixed":
        return Range.exactly(measured.share), f"measured {measured.date}: {measured.source}"
    told = (
        "assumed: products at 20 to 50% of the peak, less what is computed again and the optimiser"
    )
    return ASSUMED * useful, told


def _cost(request: Request, hours: Range) -> tuple[Range | None, str]:
    name = f"worker.gpu-{request.gpu.kind}"
    if name not in request.prices.prices:
        return None, f"no price {name} in {request.prices.place}"
    price = request.prices[name]
    return hours * price.price, price.rests_on()


def _parameters(model: DualStreamTransformer, text: TextEncoder | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        inside = name.startswith("blocks.")
        part = f"{name.split('.')[3]} stream in blocks" if inside else "around the blocks"
        found[part] = found.get(part, 0) + parameter.numel()
    if text is not None:
        found["text encoder"] = sum(p.numel() for p in text.parameters())
    return found


def _memory(
    model: DualStreamTransformer, text: TextEncoder | None, step: Step, request: Request
) -> Memory:
    precision = request.recipe.precision
    assert precision in PRECISIONS
    return memory_of(
        model,
        text,
        step,
        precision=precision,
        sharding=request.sharding,
        ema=request.recipe.ema,
    )


def _advice(
    model: DualStreamTransformer, text: TextEncoder | None, step: Step, request: Request
) -> str:
    """What fits, of the ways that memory can be saved, each by itself and then together."""

    def fits(gpus: int, strategy: str, clips: int, checkpointing: bool) -> bool:
        changed = replace(request, sharding=Sharding(strategy=strategy, gpus=gpus))
        memory = _memory(model, text, replace(step, clips=clips), changed)
        return memory.peak(checkpointing=checkpointing) <= USABLE * request.gpu.memory

    gpus, strategy, clips = request.sharding.gpus, request.sharding.strategy, step.clips
    again = request.checkpointing
    ways = []
    if not again and fits(gpus, strategy, clips, True):
        ways.append(_RECOMPUTE)
    smaller = next((n for n in _halves(clips) if fits(gpus, strategy, n, again)), None)
    if smaller:
        ways.append(f"--batch-size {smaller} with --accumulate {-(-clips // smaller)}")
    for recompute in (again,) if ways[:1] == [_RECOMPUTE] else (again, True):
        more = next((n for n in _doubles(gpus) if fits(n, "fsdp2", clips, recompute)), None)
        if more:
            also = f" {_RECOMPUTE}" if recompute and not again else ""
            ways.append(f"--strategy fsdp2 --gpus {more}{also}")
            break
    return (
        "; or ".join(ways) or "no number of GPUs of this kind: a smaller preset, or shorter clips"
    )


def _halves(clips: int) -> list[int]:
    return [clips >> shift for shift in range(1, clips.bit_length())]


def _doubles(gpus: int) -> list[int]:
    counts = [max(gpus, 2)]
    while 2 * counts[-1] <= _MOST_GPUS:
        counts.append(2 * counts[-1])
    return counts


def _setting(request: Request) -> str:
    recipe, sharding = request.recipe, request.sharding
    return (
        f"{sharding.gpus} x {request.gpu.name}, {sharding.strategy}, {recipe.precision}, "
        f"{recipe.batch_size} clips on each"
        + (f", {recipe.accumulate} micro batches a step" if recipe.accumulate > 1 else "")
        + (", activation checkpointing" if request.checkpointing else "")
    )


def _notes(request: Request, text: TextEncoder | None) -> list[str]:
    gpu, recipe = request.gpu, request.recipe
    notes = [
        *recipe.notes,
        f"{gpu.name}: {gpu.peak(recipe.precision) / 1e12:g} TFLOP/s dense, {gpu.memory_gib:g} GiB, "
        f"of which {USABLE:.0%} are planned with; {gpu.source}, {gpu.date}",
        "not counted: element-wise work, padding, codecs, reading, evaluation and checkpoints; memory that "
        "lives within the backward pass, of CUDA itself, and between blocks of the allocator",
        "activations are those of fused attention on CUDA without torch.compile",
    ]
    if text is None:
        notes.append("the frozen text encoder is not counted, neither its weights nor its work")
    if request.sharding.gpus > 1:
        notes.append("communication is not counted but in a measured MFU")
    if request.checkpointing and request.mfu is not None:
        notes.append("the MFU that is given must be of steps that compute blocks again too")
    if recipe.steps is None:
        notes.append("a preset has no number of steps: hours are of 1,000; give --steps")
    if request.mfu is None and gpu.mfu is None:
        notes.append(
            "the MFU is an assumption; the callback Throughput of a short run logs speed/mfu: give it with --mfu"
        )
    return notes


def lack(plan: ModelPlan) -> str:
    """What to say of a plan that does not fit."""
    peak = plan.peak[plan.checkpointing]
    return (
        f"{plan.name} takes {peak / GIB:.1f} GiB on each GPU, {(peak - plan.limit) / GIB:.1f} GiB more than "
        f"the {plan.limit / GIB:.1f} GiB that may be filled; what fits: {plan.advice}"
    )
