"""``avgen train``: LightningCLI over recipes."""

import os
import sys
import warnings

from avgen.cli.recipes import find

USAGE = """usage: avgen train fit --config RECIPE [--config MORE.yaml] [--trainer.max_steps N] [--ckpt_path last] ...

RECIPE is a path or the name of a recipe that ships (avgen recipes ls). Any key of it can be given as an option,
for example --model.init_args.learning_rate 1e-3. --ckpt_path last resumes exactly where a run stopped.
`avgen train fit --help` lists the trainer's options.
"""


SLOW = (
    "this processor emulates bfloat16, which makes training several times slower; "
    "add --trainer.precision 32-true"
)


def main(argv: list[str]) -> int:
    """Run LightningCLI."""
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0
    run(argv)
    return 0


def run(argv: list[str]) -> object:
    """LightningCLI on these arguments; returns it when the run ends."""
    # Two OpenMP processes on the same cores slow each other down by spinning.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from lightning.pytorch.cli import ArgsType, LightningCLI
    from lightning.pytorch.utilities import rank_zero_info

    from avgen.ops.precision import computes_bfloat16

    class TrainCLI(LightningCLI):
        def before_fit(self) -> None:
            """Say what would make a run many times slower than it need be."""
            device = self.trainer.strategy.root_device
            if self.trainer.precision.startswith("bf16") and not computes_bfloat16(device):
                rank_zero_info(SLOW)

    quiet_known_warnings()
    arguments: ArgsType = _with_found_recipes(argv)
    return TrainCLI(
        args=arguments, save_config_kwargs={"overwrite": True}, parser_kwargs={"default_env": False}
    )


def quiet_known_warnings() -> None:
    """Silence what Lightning says about choices that are deliberate here."""
    for message in (
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*exists and is not empty.*",
        ".*ModelCheckpoint.*",
        ".*`num_workers`.*",
        ".*args parameter is intended.*",
        ".*returned `None`.*",
        ".*overridden `transfer_batch_to_device`.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("default", message=".*no last checkpoint available.*")


def _with_found_recipes(argv: list[str]) -> list[str]:
    out, takes_config = [], False
    for argument in argv:
        name, equals, value = argument.partition("=")
        if takes_config:
            argument = str(find(argument))
        elif equals and name in ("--config", "-c"):
            argument = f"{name}={find(value)}"
        takes_config = argument in ("--config", "-c")
        out.append(argument)
    return out
