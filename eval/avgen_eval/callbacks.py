"""A training callback that generates clips for held-out captions and scores them with a suite."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from avgen.clip import Clip
from avgen.pipeline import AVPipeline
from avgen.training.ema import EMA
from avgen_eval.captions import SIZE, HeldOut, of_dataset, of_file, of_worlds
from avgen_eval.harness.cache import ExtractCache
from avgen_eval.harness.extract import Extraction
from avgen_eval.harness.manifest import Item
from avgen_eval.harness.result import write_result
from avgen_eval.harness.score import Scores, score
from avgen_eval.harness.suite import load_suite
from avgen_eval.roundtrip import load_codecs

SHARDED = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)


class EvaluateClips(Callback):
    """Every so many steps or epochs: clips for held-out captions by the averaged weights, scored and logged.

    The first process generates and scores while the others wait. Each figure is logged as ``eval/SUITE/FIGURE``, and
    ``eval/SUITE/failed`` is the share of clips that could not be made or measured. ``FOLDER/step-NNNNNN`` keeps the
    clips, ``clips.jsonl``, ``records.parquet`` and ``result.json``, which `avgen eval report` and `compare` read.
    Weights, optimizer and random numbers of the training are not touched: with and without this callback, a run ends
    with the same weights, bit for bit. Nothing that goes wrong with a clip ends the training. Put it after `EMA`.

    Args:
        every_n_steps: Interval; 0 for none.
        every_n_epochs: Likewise.
        suite: What is measured: names or files, separated by commas, see `avgen eval ls`.
        captions: Manifest (``.jsonl``) of captions, or dataset folder. None: captions of ``worlds``, which the suite
            ``worlds`` measures with their detectors.
        worlds: Worlds that captions come from.
        count: Captions of each world, or of the dataset; a manifest is used whole.
        height: Pixels of clips whose captions come from a manifest.
        width: Likewise.
        codecs: Weights whose codecs decode: a name that ships, or a folder.
        steps: Sampling steps.
        guidance: Scale of text guidance in all steps; None for that of the pipeline.
        batch_size: Clips made together.
        folder: Where results go; None: ``eval/SUITE`` in the trainer's ``default_root_dir``.

    Raises:
        ValueError: Neither or a negative interval; when training starts, a suite or captions that cannot be used,
            codecs that are not those of the training, or a strategy that shards the weights.
    """

    def __init__(
        self,
        every_n_steps: int = 0,
        *,
        every_n_epochs: int = 0,
        suite: str = "worlds",
        captions: str | None = None,
        worlds: Sequence[str] = ("bounce", "drums"),
        count: int = 8,
        height: int = SIZE,
        width: int = SIZE,
        codecs: str = "tiny",
        steps: int = 16,
        guidance: float | None = None,
        batch_size: int = 16,
        folder: str | None = None,
    ) -> None:
        if min(every_n_steps, every_n_epochs) < 0 or not (every_n_steps or every_n_epochs):
            raise ValueError(
                f"every_n_steps {every_n_steps}, every_n_epochs {every_n_epochs}: give a positive interval of one"
            )
        self.every_n_steps, self.every_n_epochs = every_n_steps, every_n_epochs
        self.suite = load_suite(suite)
        self.captions, self.worlds, self.count = captions, tuple(worlds), count
        self.height, self.width = height, width
        self.codecs, self.steps, self.guidance, self.batch_size = (
            codecs,
            steps,
            guidance,
            batch_size,
        )
        self.folder = None if folder is None else Path(folder)
        self._held_out: list[HeldOut] = []
        self._evaluated = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the captions, and refuse what could only fail later."""
        if isinstance(trainer.strategy, SHARDED):
            raise ValueError(
                f"strategy {type(trainer.strategy).__name__} shards the weights, and the first process cannot generate "
                "alone; use `ddp`, or evaluate the exported weights"
            )
        self._evaluated = trainer.global_step
        self.folder = self.folder or Path(trainer.default_root_dir) / "eval" / self.suite.name
        with isolate_rng():
            self._held_out = self._read()
            codecs = load_codecs(self.codecs)
        for name, codec in (("video", codecs.video), ("audio", codecs.audio)):
            bound = pl_module.network.codecs.get(name)  # type: ignore[union-attr]
            if bound not in (None, codec.identity):
                raise ValueError(
                    f"the {name} codec of {self.codecs!r} is {codec.identity[:12]}, but the training reads latents of "
                    f"{bound[:12]}; give the folder of that codec as `codecs` of EvaluateClips"
                )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate at the interval of steps."""
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._evaluate(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate at the interval of epochs."""
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._evaluate(trainer, pl_module)

    def _read(self) -> list[HeldOut]:
        if self.captions is None:
            return of_worlds(self.worlds, self.count)
        path = Path(self.captions)
        if path.is_dir():
            return of_dataset(path, self.count)
        return of_file(path, height=self.height, width=self.width)

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate in the first process, once per step, and log in all."""
        if trainer.global_step == self._evaluated:
            return
        self._evaluated = trainer.global_step
        values: dict[str, float] = {}
        if trainer.is_global_zero:
            with isolate_rng():
                try:
                    values = self._values(self._measure(trainer, pl_module))
                except Exception as error:  # no evaluation is worth a training
                    rank_zero_warn(
                        f"EvaluateClips failed at step {trainer.global_step}, and training goes on: "
                        f"{type(error).__name__}: {error}"
                    )
        values = trainer.strategy.broadcast(values)  # the others wait here
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        for name, value in values.items():
            pl_module.log(name, value, logger=False)

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> Scores:
        assert self.folder is not None
        folder = self.folder / f"step-{trainer.global_step:06}"
        averages = [c.averaged() for c in trainer.callbacks if isinstance(c, EMA)]  # type: ignore[attr-defined]
        source: Any = next((module for module in averages if module is not None), pl_module)
        with _in_evaluation(source.network):
            items = self._generate(source.network, folder / "clips")
        with TemporaryDirectory(prefix="avgen-eval-") as cache:
            contents = Extraction(extractors=self.suite.extractors, cache=Path(cache)).run_all(
                items
            )
            scores = score(self.suite, items, ExtractCache(cache), contents=contents)
        name, told = f"step {trainer.global_step}", self.captions or ", ".join(self.worlds)
        write_result(folder, name, told, items, self.suite, scores)
        return scores

    def _values(self, scores: Scores) -> dict[str, float]:
        """What is logged."""
        values = {f.id: float(f.value) for f in scores.figures if f.value is not None}
        values["failed"] = sum(bool(r.failed) for r in scores.records) / len(scores.records)
        return {f"eval/{self.suite.name}/{name}": value for name, value in values.items()}

    def _generate(self, network: Any, folder: Path) -> list[Item]:
        codecs = load_codecs(self.codecs)
        device = next(network.parameters()).device
        pipe = AVPipeline(network, codecs.video.to(device), codecs.audio.to(device))
        folder.mkdir(parents=True, exist_ok=True)
        items = []
        for start in range(0, len(self._held_out), self.batch_size):
            batch = self._held_out[start : start + self.batch_size]
            made = self._make(pipe, batch)
            for number, (wanted, clip) in enumerate(zip(batch, made, strict=True), start=start):
                items.append(_item(wanted, clip, folder / f"{number:04}.mp4"))
        return items

    def _make(self, pipe: AVPipeline, batch: Sequence[HeldOut]) -> list[Clip | Exception]:
        """The clips of a batch; where one fails, each is tried alone."""
        try:
            requests = [wanted.request() for wanted in batch]
            options = {
                "steps": self.steps,
                "guidance": self.guidance,
                "batch_size": self.batch_size,
            }
            return [*pipe.generate(requests, **options)]
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [made for wanted in batch for made in self._make(pipe, [wanted])]


@contextmanager
def _in_evaluation(network: nn.Module) -> Iterator[None]:
    """Puts every module back as it was: some may stay in evaluation mode while others train."""
    modes = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _item(wanted: HeldOut, made: Clip | Exception, path: Path) -> Item:
    """The clip, written to a file, as a line of a manifest; where that failed, with the reason."""
    truth = error = None
    try:
        if isinstance(made, Exception):
            raise made
        made.save(path)
        truth = wanted.truth and wanted.truth.save(path)
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    reference = wanted.reference
    return Item(
        id=wanted.id,
        prompt=wanted.id,
        video=None if error else path,
        reference_video=reference and reference.video,
        reference_audio=reference and reference.audio,
        seed=wanted.seed,
        caption=wanted.caption,
        truth=truth,
        error=error,
    )
