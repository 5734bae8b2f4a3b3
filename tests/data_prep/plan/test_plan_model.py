"""`avgen plan --model`: memory against PyTorch's trackers on fake tensors, figures that agree, and errors."""

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from avgen_data_prep.plan.model.command import parser, plan_of
from avgen_data_prep.plan.model.estimate import ModelPlan
from avgen_data_prep.plan.model.gpus import load_gpu
from avgen_data_prep.plan.model.memory import SCRATCH, Memory, Sharding, memory_of
from fake_training import FakeTraining, fused_attention, shallow, step
from torch._subclasses import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import AdamW, Optimizer
from torch.testing._internal.distributed.fake_pg import FakeStore

from avgen.caption import TimedCaption
from avgen.checkpoint import MODEL_FILE, find_weights
from avgen.cli import main
from avgen.data.schema import CodecInfo, DatasetInfo
from avgen.data.shards import Example, finish, write_shard
from avgen.model.bundle import Network
from avgen.model.config import ModelConfig, preset
from avgen.model.dual_stream import DualStreamTransformer
from avgen.training.muon import Muon
from avgen.training.optim import build_optimizer

CLIPS, GPUS = 4, 4


ALONE = Sharding(strategy="ddp", gpus=1)


def told(config: ModelConfig, sharding: Sharding = ALONE) -> Memory:
    with torch.device("meta"):
        model = DualStreamTransformer(config)
    return memory_of(
        model, None, step(config, CLIPS), precision="32-true", sharding=sharding, ema=False
    )


def step_before(fake: FakeTraining, optimizer: Optimizer) -> None:
    """Leaves the gradients and the states that a first step leaves."""
    for parameter in fake.model.parameters():
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()


def tracked_step(
    fake: FakeTraining, optimizer: Optimizer, tracker: MemTracker
) -> Mapping[str, int]:
    """The peak of a step in the order of Lightning, which clears the gradients after the forward pass."""
    with tracker:
        loss = fake.loss()
        optimizer.zero_grad()
        loss.backward()
        del loss
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    return {str(kind).rpartition(".")[2]: size for kind, size in peak.items()}


@pytest.mark.parametrize(
    ("name", "depth", "checkpointing"),
    [("tiny", 2, False), ("tiny", 2, True), ("small", 1, False), ("small", 2, True)],
)
def test_memory_of_one_gpu_is_that_of_the_tracker(name, depth, checkpointing):
    config = shallow(name, depth)
    with FakeTensorMode() as mode, fused_attention("cpu"):
        fake = FakeTraining(mode, config, CLIPS)
        if checkpointing:
            for i, block in enumerate(fake.model.blocks):
                fake.model.blocks[i] = checkpoint_wrapper(block)
        optimizer = build_optimizer([fake.model], lr=1e-3, weight_decay=0.01)
        step_before(fake, optimizer)
        tracker = MemTracker()
        tracker.track_external(fake.model, optimizer)
        peak = tracked_step(fake, optimizer, tracker)
    memory = replace(told(config), scratch=0.0)  # the step is tracked up to its gradients
    assert memory.peak(checkpointing=checkpointing) == pytest.approx(peak["Total"], rel=0.1)
    assert memory.state["weights"] == peak["PARAM"]
    assert memory.state["optimiser"] == pytest.approx(peak["OPT"], rel=0.01)
    if not checkpointing:
        assert memory.state["gradients"] == peak["GRAD"]
        assert memory.activations == pytest.approx(peak["ACT"], rel=0.1)


@pytest.fixture
def fake_world():
    dist.init_process_group("fake", rank=0, world_size=GPUS, store=FakeStore())
    yield init_device_mesh("cpu", (GPUS,))
    dist.destroy_process_group()


def test_memory_of_a_shard_is_that_of_the_tracker(fake_world):
    config = shallow("tiny", 2)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, fused_attention("cpu"):
        fake = FakeTraining(mode, config, CLIPS)
        for block in fake.model.blocks:
            fully_shard(block, mesh=fake_world)
        fully_shard(fake.model, mesh=fake_world)
        optimizer = AdamW(fake.model.parameters(), foreach=False)
        step_before(fake, optimizer)
        peak = tracked_step(fake, optimizer, FSDPMemTracker(fake.model, optimizer))
    memory = told(config, Sharding(strategy="fsdp2", gpus=GPUS))
    assert memory.state["weights"] == pytest.approx(peak["SHARDED_PARAM"], rel=0.01)
    assert memory.state["gradients"] == pytest.approx(peak["SHARDED_GRAD"], rel=0.01)
    assert memory.activations == pytest.approx(peak["ACT"], rel=0.1)
    gathered = peak["UNSHARDED_PARAM"] + peak["ALL_GATHER"]
    assert memory.gathered[0] == pytest.approx(gathered, rel=0.1)
    # The tracker's optimiser is AdamW, which knows shards: two numbers for each of a matrix too.
    moments = 2 * memory.state["weights"] - memory.state["optimiser"]
    total = memory.peak(checkpointing=False) + moments
    assert total == pytest.approx(peak["Total"], rel=0.1)


def test_scratch_of_muon_holds_its_steps(monkeypatch):
    # As on a GPU; a processor that emulates bfloat16 works in float32.
    monkeypatch.setattr("avgen.training.muon.computes_bfloat16", lambda _: True)
    with FakeTensorMode():
        matrices = [torch.nn.Parameter(torch.empty(256, 256)) for _ in range(8)]
        for matrix in matrices:
            matrix.grad = torch.empty_like(matrix)
        optimizer = Muon(matrices, [], lr=1e-3)
        optimizer.step()
        tracker = MemTracker()
        tracker.track_external(
            optimizer, *matrices, *(m.grad for m in matrices if m.grad is not None)
        )
        with tracker:
            before = tracker.get_tracker_snapshot()[torch.device("cpu")]["Total"]
            optimizer.step()
            peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert peak - before == pytest.approx(SCRATCH * 8 * 256**2, rel=0.05)


def plan(*words: str) -> ModelPlan:
    return plan_of(parser().parse_args(["--model", *words]))


def test_a_plan_counts_the_parameters_of_the_network_that_is_trained():
    config = replace(preset("tiny"), aligned=("text", "partners"))  # as the recipe has it
    network = Network(config)
    made = plan("joint")
    assert sum(made.parameters.values()) == sum(p.numel() for p in network.parameters())
    assert made.tokens == {"video": 208, "audio": 50, "text": 96}
    assert made.steps == 2800
    assert any("init_from runs/video/model.safetensors is not there" in n for n in made.notes)


def test_a_plan_of_weights_that_ship_and_of_one_stream():
    network = Network.from_file(find_weights("tiny") / MODEL_FILE)
    told = plan("finetune").parameters
    assert sum(told.values()) == sum(p.numel() for p in network.parameters())
    image = plan("image", "--seconds", "0.04")
    assert image.tokens == {"video": 16, "text": 96}


def recipe(folder: Path, data: dict, trainer: dict, **model) -> str:
    """A recipe in a file."""
    content = {
        "model": {"class_path": "avgen.training.joint.JointTraining", "init_args": model},
        "data": {"init_args": data},
        "trainer": trainer,
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_recipe_tells_its_batch_its_strategy_and_its_network(tmp_path):
    frozen = {"name": "huggingface", "model": "nowhere"}
    codes = {"audio_codebooks": 8, "audio_codebook_size": 512}
    tasks = {"init_args": {"tasks": {"t2av": 0.5, "extend": 0.5}}}
    name = recipe(
        tmp_path,
        {"batch_size": 4, "pack": 2},
        {"accumulate_grad_batches": 3, "precision": "32-true", "strategy": "fsdp2", "max_steps": 7},
        text=frozen, objective=tasks, checkpoint_blocks=True, config={"window_seconds": 1.0}, **codes,
    )  # fmt: skip
    made = plan(name, "--gpus", "2")
    assert made.setting == (
        "2 x H100 80 GB SXM, fsdp2, 32-true, 8 clips on each, 3 micro batches a step, activation checkpointing"
    )
    assert made.steps == 7
    assert "text encoder" not in made.parameters
    assert any("frozen text encoder is not counted" in note for note in made.notes)
    assert any("its windows save some of it" in note for note in made.notes)
    network = Network(preset("tiny"), {"depth": 0}).with_codes("audio", 8, 512).model
    assert sum(made.parameters.values()) == sum(p.numel() for p in network.parameters())


def test_clips_have_the_shape_of_the_data_where_they_are_there(tmp_path):
    def example(number: int, steps: int) -> Example:
        return Example(
            id=f"e{number}", captions=(TimedCaption(duration_us=360_000, text="a clip"),),
            duration_us=360_000, num_frames=4 * steps - 3, height=32, width=32, fps=Fraction(25),
            num_samples=9 * 640, sample_rate=16_000, source="test", seed=number, metadata={},
            latents={"video": np.zeros((16, steps, 4, 4)), "audio": np.zeros((32, 4 * steps - 3))},
        )  # fmt: skip

    write_shard(tmp_path, "shard-00000.tar", [example(0, 3), example(1, 5), example(2, 4)])
    video = CodecInfo(identity="v" * 64, latent_channels=16, time_stride=4, space_stride=8)
    audio = CodecInfo(identity="a" * 64, latent_channels=32, sample_rate=16_000, hop=640)
    finish(tmp_path, ["shard-00000.tar"], DatasetInfo(video_codec=video, audio_codec=audio))
    data = {"folders": [str(tmp_path)], "batch_size": 4}
    made = plan(recipe(tmp_path, data, {}))
    assert made.tokens == {"video": 20, "audio": 17, "text": 96}
    assert plan(recipe(tmp_path, data, {}), "--seconds", "1").tokens["audio"] == 25
    image = recipe(tmp_path, {**data, "first_frame_only": True}, {}, streams=["video"])
    assert plan(image).tokens == {"video": 4, "text": 96}


def test_time_and_money_follow_from_operations():
    made = plan("small", "--gpus", "8", "--mfu", "0.4", "--steps", "5000", "--accumulate", "2")
    useful = sum(made.flops[n] for n in ("network, products", "network, attention", "text encoder"))
    assert made.steps_per_second.mid == pytest.approx(0.4 * 989e12 / useful)
    assert made.gpu_hours.mid == pytest.approx(8 * 5000 / made.steps_per_second.mid / 3600)
    assert made.cost is not None
    assert made.cost.mid == pytest.approx(3.0 * made.gpu_hours.mid)
    assert made.tokens_per_step == 8 * 2 * 16 * 258
    assert made.mfu_from == "given"


def test_without_a_measurement_the_utilisation_is_an_assumption():
    made = plan("small")
    assert made.mfu_from.startswith("assumed")
    assert made.mfu.low < made.mfu.mid < made.mfu.high < 0.5
    assert plan("small", "--activation-checkpointing").mfu.mid < made.mfu.mid


def test_a_measured_utilisation_of_the_file_is_taken(tmp_path):
    gpu = {
        "name": "mine", "memory_gib": 10, "tflops_bf16": 100, "tflops_fp32": 50, "date": "2026-11-01",
        "source": "its sheet", "mfu": {"share": 0.3, "date": "2026-11-02", "source": "small, 64 clips"},
    }  # fmt: skip
    path = tmp_path / "gpus.yaml"
    path.write_text(yaml.safe_dump({"gpus": {"mine": gpu}}))
    made = plan("small", "--gpu", "mine", "--gpu-file", str(path))
    assert made.mfu.mid == 0.3
    assert made.mfu_from == "measured 2026-11-02: small, 64 clips"
    assert made.cost is None
    assert "no price worker.gpu-mine" in made.cost_from


def test_shards_and_checkpointing_take_less():
    alone, shared = plan("base"), plan("base", "--gpus", "8", "--strategy", "fsdp2")
    assert shared.memory.state["weights"] == pytest.approx(alone.memory.state["weights"] / 8)
    assert shared.peak[0] < alone.peak[0]
    assert alone.peak[1] < alone.peak[0]


def test_what_does_not_fit_says_what_would(tmp_path, capsys):
    path = tmp_path / "plan.json"
    assert main(["plan", "--model", "large", "--gpus", "4", "--json", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "too much" in out
    assert (
        "GiB more than the 71.2 GiB that may be filled; what fits: --strategy fsdp2 --gpus" in err
    )
    told = json.loads(path.read_text())
    words = told["advice"].rpartition("--strategy fsdp2")[2].split()
    assert plan("large", "--strategy", "fsdp2", *words).advice == ""
    assert plan("large", "--gpus", "4").advice


def test_the_command_prints_and_writes_a_plan(tmp_path, capsys):
    path = tmp_path / "plan.json"
    assert main(["plan", "--model", "joint", "--json", str(path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for word in ("FLOPs of a step", "GiB of a GPU", "MFU", "GPU hours", "USD", "not counted"):
        assert word in out
    data = json.loads(path.read_text())
    assert data["schema"] == "avgen.plan.model/1"
    assert data["tokens_per_second"][1] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["nothing"],
            "no recipe 'nothing'; use a path or one of .* one of the presets nano, tiny, small",
        ),
        (["video_vae"], "only recipes of avgen.training.joint.JointTraining can be planned"),
        (["tiny", "--gpu", "abacus"], "no GPU 'abacus' in the GPUs of avgen; there are a100, h100"),
        (["tiny", "--strategy", "hope"], "strategy 'hope' is unknown; use one of ddp, fsdp2"),
        (
            ["tiny", "--precision", "8-mixed"],
            "precision '8-mixed' cannot be planned; use one of bf16",
        ),
        (["tiny", "--gpus", "0"], "gpus is 0; give at least 1"),
        (["tiny", "--steps", "0"], "steps is 0; give at least 1 with --steps"),
        (["tiny", "--batch-size", "-3"], "clips is -3; give at least 1"),
        (["tiny", "--text-tokens", "0"], "text_tokens is 0; give at least 1"),
        (["tiny", "--seconds", "0"], "seconds is 0; give a number above 0"),
        (["tiny", "--mfu", "1.5"], "mfu is 1.5; give a share of the peak between 0 and 1"),
        (["tiny", "--width", "65"], "64x65 cannot be cut into cells of 8x8"),
        (["tiny", "--width", "72"], "8x9 cannot be cut into patches of 2"),
        (["tiny", "--strides", "8x8"], "'8x8': give HEIGHTxWIDTHxFRAMES, such as 8x8x4"),
    ],
)
def test_what_cannot_be_planned_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        plan(*words)


def test_a_file_of_gpus_of_another_form_is_refused(tmp_path):
    path = tmp_path / "gpus.yaml"
    with pytest.raises(ValueError, match=r"gpus.yaml: cannot be read as YAML"):
        load_gpu("h100", path)
    path.write_text("gpus: {h100: {name: x}}")
    with pytest.raises(ValueError, match=r"h100 has \['name'\]; give date, memory_gib, name"):
        load_gpu("h100", path)


def test_options_of_a_corpus_are_none_of_a_model(capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--model", "tiny", "--hours", "3"])
    assert "unrecognized arguments: --hours 3" in capsys.readouterr().err
