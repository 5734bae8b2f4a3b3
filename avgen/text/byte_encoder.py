"""The default text encoder: bytes, trained jointly with the network, no vocabulary and no download.

Text is cut into words, numbers and signs; each becomes one token, made of its bytes and of a hash of
the whole (after the hashed n-grams of Pagnoni et al. 2024, arXiv 2412.09871). So common words are
learned at once and any text can be read.
Letters: G texts, L tokens of a text, W bytes of a token, D width.
"""

import re
import zlib

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.ops.attention import attend
from avgen.ops.norms import normalise
from avgen.ops.rope import Rotation, frequencies, rotate, rotation
from avgen.text.base import TextEncoder

PIECE = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
LONGEST_PIECE = 16


def pieces(text: str) -> list[bytes]:
    """Words, numbers and signs of a text as bytes, long ones cut; one empty piece where there is none."""
    found = [match.encode() for match in PIECE.findall(text)]
    cut = [p[i : i + LONGEST_PIECE] for p in found for i in range(0, len(p), LONGEST_PIECE)]
    return cut or [b""]


class ByteTextEncoder(TextEncoder):
    """A small bidirectional transformer over words that are spelled in bytes.

    Args:
        width: Width of a text token.
        depth: Transformer layers.
        num_heads: Attention heads.
        num_hashes: Rows of the table of hashed words.
        max_bytes: Longest text; longer ones are refused, never cut in silence.
        written_times: Whether events also say their times in words.
    """

    def __init__(
        self,
        width: int = 192,
        depth: int = 2,
        num_heads: int = 3,
        num_hashes: int = 4096,
        max_bytes: int = 4096,
        written_times: bool = False,
    ) -> None:
        super().__init__(width)
        self.max_bytes, self.num_hashes = max_bytes, num_hashes
        self.written_times = written_times
        self.spelling = nn.EmbeddingBag(256 * LONGEST_PIECE, width, mode="sum")
        self.word = nn.Embedding(num_hashes, width)
        self.layers = nn.ModuleList([_Layer(width, num_heads) for _ in range(depth)])
        for table in (self.spelling, self.word):
            nn.init.normal_(table.weight, std=0.5)

    def encode(self, texts: list[str]) -> tuple[Float[Tensor, "g l d"], list[int]]:
        """States of each text, one per word, number or sign.

        Raises:
            ValueError: A text is longer than ``max_bytes``.
        """
        for text in texts:
            if len(text.encode()) > self.max_bytes:
                raise ValueError(
                    f"text of {len(text.encode())} bytes ({text[:40]!r}...) is longer than the {self.max_bytes} that "
                    "the text encoder reads; shorten it or move parts of it into timed events"
                )
        cut = [pieces(text) for text in texts]
        lengths = [len(words) for words in cut]
        device = self.word.weight.device
        real = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).to(device)
        x = torch.zeros(*real.shape, self.width, device=device)
        x[real] = self._embed([word for words in cut for word in words]).to(x.dtype)
        positions = torch.arange(float(x.shape[1]), device=device)[None].expand(x.shape[0], -1)
        turn = rotation(positions, self.layers[0].omega)  # type: ignore[arg-type]
        for layer in self.layers:
            x = layer(x, turn, real)
        return normalise(x), lengths

    def _embed(self, words: list[bytes]) -> Tensor:
        """One state per word: what its bytes at their places say, and what is known of the whole."""
        device = self.word.weight.device
        distinct = sorted(set(words))
        row = {word: i for i, word in enumerate(distinct)}
        spelled = [256 * place + byte for word in distinct for place, byte in enumerate(word)]
        counts = torch.tensor([len(word) for word in distinct])
        offsets = counts.cumsum(0) - counts
        letters = self.spelling(
            torch.tensor(spelled, dtype=torch.long, device=device), offsets.to(device)
        )
        hashes = torch.tensor(
            [zlib.crc32(word) % self.num_hashes for word in distinct], device=device
        )
        states = letters / counts.clamp(min=1).sqrt()[:, None].to(device) + self.word(hashes)
        return states[torch.tensor([row[word] for word in words], device=device)]


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
