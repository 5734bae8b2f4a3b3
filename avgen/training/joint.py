"""Training of the network on cached latents: the stages image, video and joint are settings of this module."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.optim import Optimizer

from avgen.checkpoint import MODEL_FILE, find_weights
from avgen.data.batch import AVBatch, PackedBatch
from avgen.data.sampler import mix
from avgen.model.bundle import Network
from avgen.model.config import ModelConfig, preset
from avgen.model.layout import Layout
from avgen.objective.joint import NUM_SIGMA_BINS, JointObjective, LossRecord
from avgen.ops.attention import Backend
from avgen.ops.context_parallel import ContextParallel, check_size
from avgen.training.optim import build_optimizer, trapezoid
from avgen.training.strategy import shard

MAX_BAD_STEPS = 10


class JointTraining(LightningModule):
    """Flow matching of picture and sound.

    Every random choice of a step comes from ``(seed, step)``, so a resumed run repeats the losses bit for bit, and
    they do not depend on the number of processes; see ``docs/beyond-one-device.md``.

    Args:
        preset_name: Size of the network: nano, tiny, small, base or large. Ignored with ``init_from``.
        config: Fields of `avgen.model.config.ModelConfig` that differ from those of the preset or of ``init_from``.
        streams: Streams that are trained; a stage for pictures alone gives only ``video``.
        video_channels: Latent channels of the video codec.
        audio_channels: Latent channels of the audio codec.
        audio_codebooks: 0 trains continuous audio latents; else the discrete codes of so many codebooks.
        audio_codebook_size: Entries of a codebook, for discrete codes.
        text: Name and arguments of the text encoder, or those that differ from ``init_from``; see
            `avgen.model.bundle.Network`.
        init_from: Weights of the stage before: a file, a folder, or a name that ships.
        renew_exchange: Whether cross-modal attention of ``init_from`` begins anew: what was learned without alignment
            is slow to learn it.
        objective: Losses and dropouts.
        learning_rate: Peak.
        weight_decay: Of matrices.
        warmup_steps: Steps of linear warm-up.
        decay_steps: Steps of linear decay to zero at the end (needs ``max_steps`` of the trainer).
        compile_blocks: Compile the blocks (needs a C++ compiler on the CPU).
        checkpoint_blocks: Keep only what goes into each block and compute the rest again for the gradient: less memory
            for about a third more time.
        backend: Attention backend.
        context_parallel: Processes that share the tokens of the same clips; it divides their number.
        seed: Seed of noise, noise levels, tasks and dropouts.
    """

    def __init__(
        self,
        *,
        preset_name: str = "tiny",
        config: Mapping[str, Any] | None = None,
        streams: Sequence[str] = ("video", "audio"),
        video_channels: int = 16,
        audio_channels: int = 32,
        audio_codebooks: int = 0,
        audio_codebook_size: int = 0,
        text: Mapping[str, Any] | None = None,
        init_from: str | None = None,
        renew_exchange: bool = False,
        objective: JointObjective | None = None,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
        decay_steps: int = 0,
        compile_blocks: bool = False,
        checkpoint_blocks: bool = False,
        backend: Backend = "auto",
        context_parallel: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if init_from is None:
            shape = preset(
                preset_name, video_channels=video_channels, audio_channels=audio_channels
            )
            shape = ModelConfig.from_dict(shape.to_dict() | dict(config or {}))
            self.network = Network(shape, text, backend=backend)
        else:
            path = init_from if Path(init_from).is_file() else find_weights(init_from) / MODEL_FILE
            self.network = Network.from_file(path, backend=backend)
            if config or text:
                self.network = self.network.with_config(config or {}, text)
            if renew_exchange:
                self.network.renew_exchange()
        if audio_codebooks:
            self.network = self.network.with_codes("audio", audio_codebooks, audio_codebook_size)
        model = self.network.model
        model.checkpoint_blocks = checkpoint_blocks
        self.streams = tuple(streams)
        self.objective = objective or JointObjective()
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup_steps, self.decay_steps = warmup_steps, decay_steps
        self.context_parallel = context_parallel
        self.context: ContextParallel | None = None
        self.seed = seed
        self._spoiled = False
        self.bad_steps = self.bad_steps_in_a_row = 0
        self._sums: dict[str, Tensor] = {}
        if compile_blocks:
            for block in model.blocks:
                block.compile()

    def setup(self, stage: str) -> None:
        """Find the processes that share clips.

        Raises:
            ValueError: ``context_parallel`` does not divide the number of processes.
        """
        strategy = self.trainer.strategy
        check_size(self.context_parallel, self.trainer.world_size)
        if self.context_parallel > 1 and self.context is None:
            self.context = ContextParallel.of_world(
                self.context_parallel, strategy.root_device.type
            )
        if isinstance(strategy, DDPStrategy):
            # Where a task gives a whole stream, what predicts it is unused; all processes have the same task.
            strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def configure_model(self) -> None:
        """Spread the weights over the processes where the strategy is one of them."""
        if self.device_mesh is not None:
            shard(self, self.network.model.blocks, self.trainer.strategy)

    def on_fit_start(self) -> None:
        """Bind the network to the codecs whose latents it reads, and refuse the text features of another encoder."""
        data: Any = getattr(self.trainer, "datamodule", None)
        for name in self.streams:
            codec = getattr(data, f"{name}_codec", None)
            if codec is None:
                continue
            bound = self.network.codecs.setdefault(name, codec.identity)
            if bound != codec.identity:
                raise ValueError(
                    f"the weights were trained on {name} latents of codec {bound[:12]}, but the data hold those of "
                    f"{codec.identity[:12]}; encode the data again with the codec beside the weights"
                )

        kept, own = getattr(data, "text_encoder", None), self.network.text_encoder.identity
        if kept is not None and kept.identity != own:
            raise ValueError(
                f"the data hold text features of encoder {kept.identity[:12]}, but the network has "
                f"{own[:12] if own else 'one that is trained with it'}; write them with its encoder, "
                "or set text_features to false"
            )

    def layout(self, batch: AVBatch) -> Layout:
        """Layout of the clips of a batch, or of a part of a packed one."""
        latents = {
            "video": batch.video,
            "audio": batch.audio if batch.codes is None else batch.codes,
        }
        given = ((name, latents[name]) for name in self.streams)
        return Layout.of_shapes(
            self.network.config,
            {name: tuple(x.shape[2:]) for name, x in given if x is not None},
            fps=batch.fps,
            time_stride=batch.time_stride or 1,
            audio_rate=batch.audio_rate or 1,
            duration=batch.duration,
        )

    def loss(self, batch: AVBatch | PackedBatch) -> LossRecord:
        """Losses of a batch, with the random numbers of its step."""
        generator = torch.Generator().manual_seed(mix(self.seed, batch.step, 0) % 2**63)
        layouts = [self.layout(part) for part in batch.parts]
        model = self.network.model
        return self.objective(
            model if self.context is None else partial(model, context=self.context),
            self.network.text_encoder,
            layouts,
            batch,
            generator,
        )

    def training_step(self, batch: AVBatch | PackedBatch, batch_idx: int) -> Tensor:
        """One step; where the loss of any process is not finite, all skip the step, and it is counted.

        Raises:
            RuntimeError: Ten losses in a row were not finite.
        """
        record = self.loss(batch)
        total, *streams = self._over_processes(
            torch.stack([record.total, *record.streams.values()]).detach(), "mean"
        )
        if bool(torch.isfinite(total)):
            self.bad_steps_in_a_row = 0
            self._log(total, dict(zip(record.streams, streams, strict=True)), len(batch))
            self._count(record.sums)
        else:
            self._skip()
        return record.total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Drop the gradients of a step that is skipped."""
        if self._spoiled:
            optimizer.zero_grad(set_to_none=True)
            self._spoiled = False

    def validation_step(self, batch: AVBatch, batch_idx: int) -> None:
        """Losses on held-out examples, with fixed random numbers."""
        record = self.loss(batch)
        for name, value in record.streams.items():
            self.log(f"val/loss_{name}", value, batch_size=len(batch), sync_dist=True)
        self.log("val/loss", record.total, batch_size=len(batch), sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Muon for matrices, AdamW for the rest, trapezoidal learning rate."""
        optimizer = build_optimizer(
            [self.network], lr=self.learning_rate, weight_decay=self.weight_decay
        )
        schedule = trapezoid(
            optimizer,
            warmup_steps=self.warmup_steps,
            decay_steps=self.decay_steps,
            max_steps=self.trainer.max_steps,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(
        self, batch: AVBatch | PackedBatch, device: torch.device, dataloader_idx: int
    ) -> AVBatch | PackedBatch:
        """Latents to the device; captions stay."""
        return batch.to(device, non_blocking=True)

    def _over_processes(self, values: Tensor, operation: str) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op=operation)  # type: ignore[return-value]

    def _skip(self) -> None:
        self._spoiled = True
        self.bad_steps += 1
        self.bad_steps_in_a_row += 1
        self.log("train/bad_steps", float(self.bad_steps), prog_bar=True)
        if self.bad_steps_in_a_row >= MAX_BAD_STEPS:
            raise RuntimeError(
                f"the loss was not finite {MAX_BAD_STEPS} steps in a row (at step {self.global_step}); go back to the "
                "last checkpoint with a lower learning_rate or a lower gradient_clip_val, and check the data"
            )

    def _log(self, total: Tensor, streams: Mapping[str, Tensor], batch_size: int) -> None:
        self.log("train/loss", total, prog_bar=True, batch_size=batch_size)
        for name, value in streams.items():
            self.log(f"train/loss_{name}", value, prog_bar=True, batch_size=batch_size)

    def _count(self, by_sigma: Mapping[str, Tensor]) -> None:
        for name, sums in by_sigma.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(sums)) + sums
        interval: int = getattr(self.trainer, "log_every_n_steps", 0)
        if interval and (self.global_step + 1) % interval == 0:
            self._log_bins()

    def _log_bins(self) -> None:
        for name, sums in self._sums.items():
            for i, (total, count) in enumerate(self._over_processes(sums, "sum").tolist()):
                if count:
                    low, high = i / NUM_SIGMA_BINS, (i + 1) / NUM_SIGMA_BINS
                    self.log(f"sigma/{name}_{low:.2f}-{high:.2f}", total / count)
        self._sums.clear()
