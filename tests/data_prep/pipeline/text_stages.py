"""Stages that work on any bytes: they measure, they fail, and one takes its process down."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from avgen_data_prep.pipeline.stage import Gather, Measure, Row, Split, StageError, clip_id
from avgen_data_prep.pipeline.work import Work

DEADLY, ENDLESS, BAD = b"deadly", b"endless", b"bad"


@dataclass(frozen=True, kw_only=True)
class Size(Measure):
    """``size``: bytes; refuses files that hold `BAD`."""

    name: ClassVar[str] = "size"
    writes: ClassVar = pa.schema([("size", pa.int64())])
    seconds: float = 0.0

    def measure(self, row: Row, work: Work) -> Row:
        data = work.source(row).read_bytes()
        time.sleep(self.seconds)
        if data.startswith(BAD):
            raise StageError("holds bad bytes; write better ones")
        if data.startswith(DEADLY):
            os.kill(os.getpid(), signal.SIGSEGV)
        if data.startswith(ENDLESS):
            time.sleep(3600)
        return {"size": len(data)}


@dataclass(frozen=True, kw_only=True)
class Lines(Split):
    """One clip per line."""

    name: ClassVar[str] = "lines"
    reads: ClassVar = ("size",)
    writes: ClassVar = pa.schema([("start_us", pa.int64())])
    step: int = 1

    def split(self, row: Row, work: Work) -> list[Row]:
        lines = work.source(row).read_bytes().splitlines()
        clips = []
        for number, line in enumerate(lines[:: self.step]):
            name = clip_id(row["source_sha256"], number, number + 1, work.key)
            path = work.clip_file(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(line)
            clips.append({"id": name, "start_us": number})
        return clips


@dataclass(frozen=True, kw_only=True)
class Words(Measure):
    """``words``: how many; refuses lines with a question mark."""

    name: ClassVar[str] = "words"
    writes: ClassVar = pa.schema([("words", pa.int64())])
    log: str = ""

    def parameters(self) -> dict:
        return {}

    def measure(self, row: Row, work: Work) -> Row:
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{row['id']}\n")
        text = work.clip_file(row["id"]).read_text()
        if "?" in text:
            raise StageError("asks something")
        return {"words": len(text.split())}


@dataclass(frozen=True, kw_only=True)
class Letters(Measure):
    """``letters``: of a line, times a factor."""

    name: ClassVar[str] = "letters"
    reads: ClassVar = ("words",)
    writes: ClassVar = pa.schema([("letters", pa.int64())])
    factor: int = 1

    def measure(self, row: Row, work: Work) -> Row:
        assert row["words"] >= 0
        return {"letters": self.factor * len(work.clip_file(row["id"]).read_bytes())}


@dataclass(frozen=True, kw_only=True)
class Rank(Gather):
    """``rank``: place of a clip by letters."""

    name: ClassVar[str] = "rank"
    reads: ClassVar = ("letters",)
    writes: ClassVar = pa.schema([("rank", pa.int64())])

    def gather(self, rows: list[Row]) -> list[Row]:
        order = sorted(range(len(rows)), key=lambda i: (rows[i]["letters"] or 0, rows[i]["id"]))
        places = {index: place for place, index in enumerate(order)}
        return [{"rank": places[index]} for index in range(len(rows))]
