"""Every recipe parses into its classes, says what it is, and names paths that its neighbours write."""

from pathlib import Path

import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from avgen.cli.recipes import folder

RECIPES = sorted(folder().glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_header_says_what_command_and_hardware(path: Path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("What:", "Command:", "Hardware:"):
        assert any(word in line for line in header), f"{path.name} does not say {word}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_key_belongs_to_a_constructor(path: Path):
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer

    parser = LightningArgumentParser()
    parser.add_argument("--seed_everything", type=int)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    parser.parse_object(yaml.safe_load(path.read_text()))
    wrong = yaml.safe_load(path.read_text())
    wrong["model"]["init_args"]["learning_rat"] = 1.0
    with pytest.raises(SystemExit):
        parser.parse_object(wrong)


def test_each_stage_starts_from_the_one_before():
    content = {path.stem: yaml.safe_load(path.read_text()) for path in RECIPES}
    for stage, before in (("video", "image"), ("joint", "video")):
        exported = [
            c["init_args"]["path"]
            for c in content[before]["trainer"]["callbacks"]
            if c["class_path"].endswith("ExportWeights")
        ]
        assert content[stage]["model"]["init_args"]["init_from"] in exported
