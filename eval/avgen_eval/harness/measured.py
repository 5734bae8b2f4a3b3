"""One clip of a manifest as a report draws it: decoded, with its events measured against its caption."""

from dataclasses import replace
from typing import Any

from avgen_eval.clips import GENERIC, ClipRecord, failed_clip, measure_clip
from avgen_eval.harness.decode import Decoded, decode
from avgen_eval.harness.manifest import Item
from avgen_eval.report import ReportItem

GIVEN = {
    "prefix": "continued from a given clip",
    "video": "sound added to a silent video",
    "audio": "picture added to a sound",
    "image": "started from a given image",
}
"""How a clip came about, by the request embedded in it."""


def measure_item(item: Item) -> ReportItem:
    """Decode and measure a clip; one that cannot be decoded becomes a failed record.

    The caption is that of the manifest or beside the file, else the one embedded in it. Where a world knows what the
    clip should show, its detector is used.
    """
    decoded = decode(item)
    findings = tuple(finding.text for finding in decoded.findings)
    if decoded.clip is None:
        return ReportItem(record=failed_clip(item.id, "; ".join(findings)))
    record, more = _record(item, decoded)
    as_it_is = item.audio is None and item.video is not None and item.video.suffix.lower() == ".mp4"
    return ReportItem(
        record=replace(record, findings=findings + more),
        clip=decoded.clip,
        path=item.video if as_it_is else None,
        caption=decoded.caption,
    )


def _record(item: Item, decoded: Decoded) -> tuple[ClipRecord, tuple[str, ...]]:
    """The record, and what is wrong with the detector."""
    clip, truth = decoded.clip, decoded.truth
    assert clip is not None
    given = clip.request.get("given")
    shared: dict[str, Any] = {
        "caption": decoded.caption,
        "name": item.id,
        "notes": (GIVEN[given],) if isinstance(given, str) and given in GIVEN else (),
    }
    if truth is None:
        return measure_clip(clip, **shared), ()
    try:
        return measure_clip(clip, detector=truth.detect, detector_name=truth.world, **shared), ()
    except ValueError as error:
        return measure_clip(clip, detector_name=GENERIC, **shared), (str(error),)
