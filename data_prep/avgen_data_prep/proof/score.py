"""What a run made of a corpus, held against its truth."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.optimize import linear_sum_assignment

from avgen.caption import TimedCaption
from avgen.clock import MICROSECONDS
from avgen_data_prep.pipeline.manifest import FAILED, MANIFEST
from avgen_data_prep.pipeline.stage import Row
from avgen_data_prep.pipeline.work import CLIPS
from avgen_data_prep.proof.corpus import Corpus, FilmTruth

EVENT_SECONDS = 0.04
BARS = {
    "shot_f1": 0.97,
    "event_recall": 0.95,
    "offset_error_ms": 10.0,
    "copies_found": 1.0,
    "damaged_reported": 1.0,
}
# A shot that is a twentieth of a frame too short for its clip still gets it.
_SLACK_US = 2001
_HEARD = ("sfx", "ambience", "music", "speech")


@dataclass
class Score:
    """Figures of a run.

    Attributes:
        shot_f1: Of the cuts between shots, one to one, within one picture of the film.
        event_recall: Of the events that are seen or heard in a clip, at least 40 ms from its ends, the
            share for which its caption has an event on a track of that sense within 40 ms.
        sound_recall: The same, of those heard, by what is heard alone.
        picture_recall: The same, of those seen, by what is seen alone.
        offset_error_ms: Largest error left where the sound of a film was put right, or left as it
            is with a measured offset.
        offset_errors_ms: That error by film.
        offsets_unknown: Films with a late or early sound about which nothing was said.
        copies_found: Share of exact copies that are reported as copies of the right file.
        damaged_reported: Share of damaged files that gave no clip and have a reason.
        lost: Sources of which nothing is known, or that gave no clip although they are whole.
        doubled: Clips, or stretches of a film, that are there twice.
        counts: How many there were of each.
        misses: What was missed, by film, to look at.
    """

    shot_f1: float = 0.0
    event_recall: float = 0.0
    sound_recall: float = 0.0
    picture_recall: float = 0.0
    offset_error_ms: float = 0.0
    offset_errors_ms: dict[str, float] = field(default_factory=dict)
    offsets_unknown: list[str] = field(default_factory=list)
    copies_found: float = 0.0
    damaged_reported: float = 0.0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    misses: dict[str, list[str]] = field(default_factory=dict)

    def short(self) -> list[str]:
        """What falls short of `BARS`, in words; empty if nothing does."""
        wrong = []
        for name, bar in BARS.items():
            value = getattr(self, name)
            good = value <= bar if name == "offset_error_ms" else value >= bar
            if not good:
                wrong.append(f"{name} is {value:.4g}, the bar is {bar:g}")
        wrong += [f"lost: {what}" for what in self.lost]
        return wrong + [f"doubled: {what}" for what in self.doubled]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def score_run(corpus: Corpus, work: Path) -> Score:
    """Compare a finished run with the truth.

    Args:
        corpus: What was to be found.
        work: Folder of the run.
    """
    clips = pq.ParquetFile(work / MANIFEST).read().to_pylist()
    failed = pq.ParquetFile(work / FAILED).read().to_pylist()
    by_source: dict[str, list[Row]] = {}
    for clip in clips:
        name = str(corpus.copies.get(clip["source"], clip["source"]))
        by_source.setdefault(name, []).append(clip)
    score = Score()
    found = [(film, by_source[film.source]) for film in corpus.films if film.source in by_source]
    _score_shots(score, found)
    _score_events(score, found)
    _score_offsets(score, found)
    _score_files(score, corpus, by_source, failed)
    _score_clips(score, clips, by_source, failed, work)
    score.counts |= {"films": len(corpus.films), "clips": len(clips), "failed": len(failed)}
    return score


def _score_shots(score: Score, found: Sequence[tuple[FilmTruth, list[Row]]]) -> None:
    hits = proposed = wanted = 0
    for film, clips in found:
        # Both count from the first picture: where the streams start is told by other columns.
        seen = np.array(clips[0]["shot_us"][1:-1]) / MICROSECONDS - _first(clips)
        true = np.array(film.shots[1:-1]) - film.shots[0]
        matched = _matched(seen, true, film.frame + 1e-3)
        hits, proposed, wanted = hits + len(matched), proposed + len(seen), wanted + len(true)
        missed = [f"cut at {true[i]:.3f} s" for i in range(len(true)) if i not in matched]
        extra = len(seen) - len(matched)
        if missed or extra:
            score.misses.setdefault(film.source, []).extend(
                [*missed, *([f"{extra} cuts that are none"] if extra else [])]
            )
    score.shot_f1 = 2 * hits / max(1, proposed + wanted)
    score.counts |= {"cuts": wanted, "cuts_found": proposed}


def _first(clips: Sequence[Row]) -> float:
    return clips[0]["shot_us"][0] / MICROSECONDS


def _matched(found: np.ndarray, true: np.ndarray, slack: float) -> dict[int, int]:
    """Pairs of true and found times, one to one, as many as lie within the slack."""
    if not len(found) or not len(true):
        return {}
    far = np.abs(found[:, None] - true[None])
    rows, columns = linear_sum_assignment(np.where(far <= slack, far, 1e3))
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {column: row for row, column in pairs if far[row, column] <= slack}


def _score_events(score: Score, found: Sequence[tuple[FilmTruth, list[Row]]]) -> None:
    tally: Counter[str] = Counter()
    for film, clips in found:
        for clip in clips:
            caption = TimedCaption.from_json(json.loads(clip["captions"])[0])
            seen = [e.start for e in caption.events if e.track == "visual"]
            heard = [e.start for e in caption.events if e.track in _HEARD]
            for sight, sound in _events_within(film, clip, _first(clips)):
                near = {"seen": _near(sight, seen), "heard": _near(sound, heard)}
                tally.update(["all", *(k for k, v in near.items() if v is not None)])
                tally.update(f"{k} found" for k, v in near.items() if v)
                if any(near.values()):
                    tally.update(["found"])
                else:
                    told = f"event of {clip['id']}: seen {sight}, heard {sound}"
                    score.misses.setdefault(film.source, []).append(told)
    score.event_recall = tally["found"] / max(1, tally["all"])
    score.sound_recall = tally["heard found"] / max(1, tally["heard"])
    score.picture_recall = tally["seen found"] / max(1, tally["seen"])
    score.counts |= {
        "events": tally["all"],
        "events_heard": tally["heard"],
        "events_seen": tally["seen"],
    }


def _events_within(
    film: FilmTruth, clip: Row, first: float
) -> Iterator[tuple[float | None, float | None]]:
    """Seconds of the clip at which each event is seen and heard in it; None where it is not."""
    start = clip["start_us"] / MICROSECONDS - first + film.shots[0]
    length = clip["duration_us"] / MICROSECONDS
    moved = clip["sound_shift_us"] / MICROSECONDS
    for seen, heard in film.events:
        times = (seen, None if heard is None else heard + moved)
        inside = [
            None
            if time is None or not EVENT_SECONDS <= time - start <= length - EVENT_SECONDS
            else time - start
            for time in times
        ]
        if any(time is not None for time in inside):
            yield inside[0], inside[1]


def _near(time: float | None, found: Sequence[float]) -> bool | None:
    if time is None:
        return None
    return any(abs(time - other) <= EVENT_SECONDS for other in found)


def _score_offsets(score: Score, found: Sequence[tuple[FilmTruth, list[Row]]]) -> None:
    told = 0
    for film, clips in found:
        if film.offset_ms is None:
            continue
        moved = clips[0]["sound_shift_us"] / 1000
        if clips[0]["source_offset_ms"] is not None and (moved or not film.offset_ms):
            told += 1
            score.offset_errors_ms[film.source] = round(abs(film.offset_ms + moved), 1)
        elif film.offset_ms:
            score.offsets_unknown.append(film.source)
    score.offset_error_ms = max(score.offset_errors_ms.values(), default=0.0)
    score.counts |= {"offsets_told": told, "offsets_unknown": len(score.offsets_unknown)}


def _score_files(
    score: Score, corpus: Corpus, by_source: dict[str, list[Row]], failed: Sequence[Row]
) -> None:
    """Copies, damaged files, and whether every file is accounted for."""
    same = {}
    for row in failed:
        of = re.fullmatch("same contents as (.*)", row["reason"])
        if row["outcome"] == "duplicate" and of:
            same[row["source"]] = of[1]
    pairs = [{copy, original} for copy, original in corpus.copies.items()]
    right = sum({name, of} in pairs for name, of in same.items())
    score.copies_found = right / max(1, len(pairs))
    score.doubled += [f"{n} is no copy of {of}" for n, of in same.items() if {n, of} not in pairs]
    reasons = {row["source"] for row in failed if row["reason"] and not row["id"]}
    good = [name for name in corpus.damaged if name in reasons and name not in by_source]
    score.damaged_reported = len(good) / max(1, len(corpus.damaged))
    for name in set(corpus.damaged) - set(good):
        made = len(by_source.get(name, ()))
        score.misses.setdefault(name, []).append(f"{made} clips of a damaged file")
    wholes = [film.source for film in corpus.films] + list(corpus.odd)
    score.lost += [f"no clip of {name}" for name in wholes if name not in by_source]
    files = {str(p.relative_to(corpus.folder)) for p in corpus.folder.rglob("*") if p.is_file()}
    known = set(by_source) | {row["source"] for row in failed} | set(corpus.copies)
    score.lost += [f"nothing is known of {name}" for name in sorted(files - known)]
    score.counts |= {
        "files": len(files),
        "copies": len(pairs),
        "damaged": len(corpus.damaged),
        "odd": len(corpus.odd),
    }


def _score_clips(
    score: Score,
    clips: Sequence[Row],
    by_source: dict[str, list[Row]],
    failed: Sequence[Row],
    work: Path,
) -> None:
    """Whether each clip is there once, and what a film's clips leave out is as long as it says."""
    ids = Counter(clip["id"] for clip in clips)
    score.doubled += [f"clip {name}" for name, number in ids.items() if number > 1]
    on_disk = Counter(path.stem for path in (work / CLIPS).rglob("*.mp4"))
    known = set(ids) | {row["id"] for row in failed if row["id"]}
    score.lost += [f"no file of clip {name}" for name in sorted(known - set(on_disk))]
    stages_failed = {row["source"] for row in failed if row["outcome"] == "failed"}
    for name, rows in by_source.items():
        spans = sorted((row["start_us"], row["start_us"] + row["duration_us"]) for row in rows)
        score.doubled += [
            f"{name} at {b[0]} us" for a, b in pairwise(spans) if b[0] < a[1] - _SLACK_US
        ]
        length = rows[0]["shot_us"][-1] - rows[0]["shot_us"][0]
        left = length - sum(row["duration_us"] for row in rows)
        if name not in stages_failed and abs(left - rows[0]["source_dropped_us"]) > len(rows):
            score.lost.append(
                f"{left} us of {name}, of which it tells {rows[0]['source_dropped_us']}"
            )
