"""``avgen plan --model``: parameters, operations, memory, speed and money of training a network."""

import argparse
from dataclasses import replace
from pathlib import Path

from avgen_data_prep.plan.model.estimate import STRATEGIES, ModelPlan, Request, make_plan
from avgen_data_prep.plan.model.gpus import load_gpu
from avgen_data_prep.plan.model.memory import Sharding
from avgen_data_prep.plan.model.run import Clip, read
from avgen_data_prep.plan.prices import load_prices

_OF_RECIPE = ("batch_size", "accumulate", "precision", "steps")
_OF_CLIP = ("height", "width", "seconds", "fps", "audio_rate")


def parser() -> argparse.ArgumentParser:
    """Options of ``avgen plan --model``."""
    made = argparse.ArgumentParser(
        prog="avgen plan",
        description="What training a network takes: operations, memory of a GPU, hours and money.",
    )
    add = made.add_argument
    add("--model", required=True, metavar="RECIPE", help="a recipe by path or name, or a preset")
    add("--gpus", type=int, default=1, metavar="N", help="how many (%(default)s)")
    add("--gpu", default="h100", metavar="KIND", help="a100, h100, h200 (%(default)s)")
    add("--gpu-file", type=Path, metavar="FILE", help="YAML of data sheets (those of avgen)")
    add("--strategy", metavar="NAME",
        help=f"how the GPUs share weights and states: {' or '.join(STRATEGIES)} (the recipe's)")  # fmt: skip
    add(
        "--activation-checkpointing",
        action="store_true",
        help="compute blocks again in the backward pass",
    )
    add("--precision", metavar="NAME", help="bf16-mixed or 32-true (the recipe's)")
    add("--batch-size", type=int, metavar="N", help="clips of a GPU at a time (the recipe's)")
    add("--accumulate", type=int, metavar="N", help="micro batches of a step (the recipe's)")
    add("--steps", type=int, metavar="N", help="of the run (the recipe's)")
    add("--height", type=int, help="pixels (those of the recipe's data, or 64)")
    add("--width", type=int, help="pixels (likewise)")
    add("--seconds", type=float, help="of a clip (those of the recipe's data, or 2)")
    add("--fps", type=float, help="pictures per second (those of the recipe's data, or 25)")
    add("--strides", metavar="HxWxT",
        help="of the video codec: pixels in height and width, frames (8x8x4)")  # fmt: skip
    add("--audio-rate", type=float, help="audio latents per second (25)")
    add("--text-tokens", type=int, default=96, metavar="N", help="of a clip (%(default)s)")
    add("--mfu", type=float, metavar="SHARE",
        help="model FLOP utilisation, as the callback Throughput logs it (measured, or assumed)")  # fmt: skip
    add("--prices", type=Path, metavar="FILE", help="YAML of dated prices (those of avgen)")
    add("--json", type=Path, metavar="FILE", help="also write the plan as JSON")
    return made


def plan_of(options: argparse.Namespace) -> ModelPlan:
    """The plan that is asked for.

    Raises:
        ValueError: Something that it needs is missing or wrong.
    """
    recipe = read(options.model)
    recipe = replace(recipe, **_given(options, _OF_RECIPE))
    shape = _given(options, _OF_CLIP)
    if options.strides is not None:
        shape["strides"] = _strides(options.strides)
    if shape:
        recipe = replace(recipe, latents=None)
    request = Request(
        recipe=recipe,
        clip=Clip(**shape),
        text_tokens=options.text_tokens,
        gpu=load_gpu(options.gpu, options.gpu_file),
        sharding=Sharding(strategy=options.strategy or recipe.strategy, gpus=options.gpus),
        prices=load_prices(options.prices),
        checkpointing=options.activation_checkpointing or recipe.checkpointing,
        mfu=options.mfu,
    )
    return make_plan(request)


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> dict:
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _strides(text: str) -> tuple[int, int, int]:
    try:
        height, width, time = (int(part) for part in text.split("x"))
    except ValueError:
        raise ValueError(f"--strides {text!r}: give HEIGHTxWIDTHxFRAMES, such as 8x8x4") from None
    return height, width, time
