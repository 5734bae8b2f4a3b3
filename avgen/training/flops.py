"""Floating point operations of a training step on a batch."""

from avgen.data.batch import AVBatch, PackedBatch
from avgen.model import cost
from avgen.text.base import segments
from avgen.text.byte_encoder import ByteTextEncoder, pieces
from avgen.training.joint import JointTraining


def batch_flops(module: JointTraining, batch: AVBatch | PackedBatch) -> int:
    """Operations of forward and backward over a batch; see `avgen.model.cost` for what counts.

    Texts count as if every clip had texts of its own, in tokens of the byte encoder; a pretrained encoder, which is
    not trained, does not count.
    """
    total, encoder = 0, module.network.text_encoder
    for part in batch.parts:
        texts = [len(pieces(segment.text)) for c in part.captions for segment in segments(c)]
        step = cost.Step(
            clips=len(part),
            tokens={name: len(grid) for name, grid in module.layout(part).grids.items()},
            text_tokens=max(1, round(sum(texts) / len(part))),
        )
        total += cost.step_flops(module.network.config, step).total
        if isinstance(encoder, ByteTextEncoder):
            total += cost.text_flops(encoder.width, len(encoder.layers), step).total
    return total
