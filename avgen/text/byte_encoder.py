"""The default text encoder: bytes, trained jointly with the network, no vocabulary and no download.

Letters: G texts, L steps, D width, E byte width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.ops.attention import attend
from avgen.ops.norms import normalise
from avgen.ops.rope import Rotation, frequencies, rotate, rotation
from avgen.text.base import TextEncoder


class ByteTextEncoder(TextEncoder):
    """A small bidirectional transformer over groups of four bytes; pairs of groups make one text token.

    Args:
        width: Width of a text token.
        depth: Transformer layers.
        num_heads: Attention heads.
        byte_width: Width of a byte embedding.
        max_bytes: Longest text; longer ones are refused, never cut in silence.
    """

    group = 4
    merge = 2

    def __init__(
        self,
        width: int = 192,
        depth: int = 2,
        num_heads: int = 3,
        byte_width: int = 64,
        max_bytes: int = 4096,
    ) -> None:
        super().__init__(width)
        self.max_bytes = max_bytes
        self.byte_embedding = nn.Embedding(257, byte_width)
        self.mix = nn.Conv1d(byte_width, byte_width, 7, padding=3)
        self.project = nn.Linear(self.group * byte_width, width)
        self.layers = nn.ModuleList([_Layer(width, num_heads) for _ in range(depth)])
        self.reduce = nn.Linear(self.merge * width, width)

    def encode(self, texts: list[str]) -> tuple[Float[Tensor, "g l d"], list[int]]:
        """States of each text, one per eight bytes.

        Raises:
            ValueError: A text is longer than ``max_bytes``.
        """
        raw = [text.encode() for text in texts]
        for text, data in zip(texts, raw, strict=True):
            if len(data) > self.max_bytes:
                raise ValueError(
                    f"text of {len(data)} bytes ({text[:40]!r}...) is longer than the {self.max_bytes} that the "
                    "text encoder reads; shorten it or move parts of it into timed events"
                )
        stride = self.group * self.merge
        lengths = [max(1, -(-len(data) // stride)) for data in raw]
        padded = max(lengths) * stride
        flat = torch.full((len(raw), padded), 256)
        for i, data in enumerate(raw):
            if data:
                flat[i, : len(data)] = torch.tensor(list(data))
        real = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
        device = self.byte_embedding.weight.device
        return self._encode_bytes(flat.to(device), real.to(device)), lengths

    def _encode_bytes(self, flat: Tensor, real: Tensor) -> Tensor:
        # Beyond a text's last token everything is zero, so that the width of the batch changes nothing.
        per_byte = real.repeat_interleave(self.group * self.merge, dim=1)[..., None]
        embedded = self.byte_embedding(flat) * per_byte
        mixed = F.gelu(self.mix(embedded.transpose(1, 2)).transpose(1, 2)) + embedded
        x = self.project(mixed.unflatten(1, (-1, self.group)).flatten(2))
        mask = real.repeat_interleave(self.merge, dim=1)
        positions = torch.arange(x.shape[1], device=x.device)[None].expand(x.shape[0], -1)
        turn = rotation(positions, self.layers[0].omega)  # type: ignore[arg-type]
        for layer in self.layers:
            x = layer(x, turn, mask)
        return normalise(self.reduce(x.unflatten(1, (-1, self.merge)).flatten(2)))


class _Layer(nn.Module):
    omega: Tensor

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.register_buffer(
            "omega", frequencies(width // num_heads // 2, 1.0, 0.01), persistent=False
        )

    def forward(self, x: Tensor, turn: Rotation, mask: Tensor) -> Tensor:
        query, key, value = self.qkv(normalise(x)).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        read = attend(rotate(normalise(query), turn), rotate(normalise(key), turn), value, mask)
        x = x + self.out(read.flatten(2))
        return x + self.contract(F.gelu(self.expand(normalise(x))))
