"""Figures as tables on the terminal."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from avgen_eval.summary import Figure

NAMES = {
    "sound_f1_60": "sound events, F1 at 60 ms",
    "sound_f1_60_chance": "  the same by chance",
    "sound_precision_60": "  precision",
    "sound_recall_60": "  recall",
    "sound_f1_120": "sound events, F1 at 120 ms",
    "sound_timing_median_ms": "sound timing error, median",
    "sound_timing_p90_ms": "sound timing error, 90%",
    "picture_f1_60": "picture events, F1 at 60 ms",
    "picture_f1_60_chance": "  the same by chance",
    "picture_precision_60": "  precision",
    "picture_recall_60": "  recall",
    "picture_f1_120": "picture events, F1 at 120 ms",
    "picture_timing_median_ms": "picture timing error, median",
    "picture_timing_p90_ms": "picture timing error, 90%",
    "offset_median_ms": "A/V offset, median",
    "offset_abs_median_ms": "A/V offset, median size",
    "offset_measurable": "  clips where it can be told",
    "pair_offset_abs_median_ms": "A/V offset of event pairs, median size",
    "objects_visible": "frames with the objects described",
    "psnr_db": "picture, PSNR",
    "log_mel_db": "sound, log-mel distance",
    "onset_f1": "onsets kept, F1 at 60 ms",
    "onset_shift_ms": "onset shift, median",
    "onset_error_p90_ms": "onset shift, 90%",
}


def figure_table(
    title: str, figures: Mapping[str, Figure], names: Mapping[str, str] | None = None
) -> Table:
    """One row per figure that has a name, with its interval; those of `NAMES` and ``names``, in this order."""
    labels = NAMES | dict(names or {})
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("figure")
    for head in ("value", "95% interval", "clips"):
        table.add_column(head, justify="right")
    known = [name for name in labels if name in figures]
    attributes = [name for name in figures if name.startswith("attribute_")]
    for name in known + attributes:
        figure = figures[name]
        label = labels.get(name) or f"{name.removeprefix('attribute_').replace('_', ' ')} right"
        interval = (
            ""
            if figure.low is None or figure.high is None
            else f"{show(figure.low, figure.unit)} to {show(figure.high, figure.unit)}"
        )
        table.add_row(label, show(figure.value, figure.unit), interval, str(figure.num_clips))
    return table


def progress_bar(console: Console) -> Progress:
    """A bar that disappears when it is done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def show(value: float, unit: str) -> str:
    """A number with its unit."""
    return f"{value:.1f} {unit}" if unit else f"{value:.3f}"
