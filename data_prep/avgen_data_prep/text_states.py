"""Any source's examples with the states of a frozen text encoder, so that training need not run it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from avgen.data.schema import DatasetInfo, TextInfo
from avgen.data.shards import Example
from avgen.data.text_features import encode_captions
from avgen.text.hf import HuggingFaceTextEncoder
from avgen_data_prep.build import Job, Record, Source, fingerprint


@dataclass(frozen=True)
class WithText(Source):
    """Another source's examples with text features of all their captions.

    Attributes:
        source: Where the examples come from.
        model: Local folder or hub id of a text encoder that transformers reads.
        max_length: Tokens of one segment at most; a clip with a longer one becomes a record.
    """

    source: Source
    model: str
    max_length: int = 512

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def latent_dtype(self) -> Any:  # type: ignore[override]
        """Of the source."""
        return self.source.latent_dtype

    @cached_property
    def _encoder(self) -> HuggingFaceTextEncoder:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        # The width is that of the projection, which training makes: only states are kept here.
        return HuggingFaceTextEncoder(self.model, width=1, max_length=self.max_length).to(device)

    def info(self) -> DatasetInfo:
        """Of the source, and the encoder."""
        width = self._encoder.projection.in_features
        text = TextInfo(identity=self._encoder.identity, width=width)
        return replace(self.source.info(), text_encoder=text)

    def jobs(self) -> list[Job]:
        """Those of the source."""
        identity = self._encoder.identity
        return [
            replace(job, key=fingerprint(job.key, "text", identity, self.max_length))
            for job in self.source.jobs()
        ]

    def open(self) -> Callable[[Job, list[Record]], Iterator[Example]]:
        """Return what adds features to a shard's examples."""
        make = self.source.open()

        def with_text(job: Job, records: list[Record]) -> Iterator[Example]:
            # One clip at a time: its texts' padded states are in memory together.
            for example in make(job, records):
                try:
                    features = encode_captions(self._encoder.encode, example.captions)
                except ValueError as error:
                    record = Record(file=example.id, outcome="bad caption", reason=str(error))
                    records.append(record)
                    continue
                yield replace(example, text_features=features)

        return with_text

    def counts(self, rows: int, records: list[Record]) -> dict[str, Any]:
        """Those of the source."""
        return self.source.counts(rows, records)
