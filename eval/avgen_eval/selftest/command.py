"""``avgen eval selftest``."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from avgen_eval import selftest
from avgen_eval.results import provenance, write_json
from avgen_eval.selftest.analysis import SelfTest, run_selftest
from avgen_eval.selftest.ladder import make_cases
from avgen_eval.tables import progress_bar


def main(argv: list[str]) -> int:
    """Run the self-test and print its table."""
    parser = argparse.ArgumentParser(prog="avgen eval selftest", description=selftest.__doc__)
    parser.add_argument("--world", action="append", help="repeatable (default: bounce, drums)")
    parser.add_argument("--count", type=int, default=25, help="clips of each world (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.96, help="of each clip (%(default)s)")
    parser.add_argument("--json", type=Path, help="file for the table")
    options = parser.parse_args(argv)
    worlds = options.world or ["bounce", "drums"]
    console = Console()
    with progress_bar(console) as progress:
        task = progress.add_task("damaging and measuring", total=options.count * len(worlds))
        result = run_selftest(
            make_cases(worlds, options.count, seconds=options.seconds),
            lambda: progress.update(task, advance=1),
        )
    console.print(selftest_table(result))
    alarms = ", ".join(f"{name} {share:.0%}" for name, share in result.false_alarms.items())
    if result.offset_slope is not None and result.offset_bias_ms is not None:
        bias = result.offset_bias_ms
        console.print(f"offset: {result.offset_slope:.3f} ms per ms of shift, bias {bias:+.1f} ms")
    console.print(f"alarms on {result.num_clips} whole clips: {alarms}")
    if options.json:
        settings = {"worlds": worlds, "count": options.count, "seconds": options.seconds}
        content = {"provenance": provenance(), "settings": settings, "selftest": result.to_dict()}
        console.print(f"table: {write_json(options.json, content)}", highlight=False)
    return 0


def selftest_table(result: SelfTest) -> Table:
    """AUC by level; a star where it rests on less than 90% of the damaged clips."""
    table = Table(box=None)
    for name in ("damage", "value"):
        table.add_column(name, no_wrap=True)
    table.add_column("AUC by level")
    table.add_column("monotonic")
    for row in result.rows:
        cells = [
            f"{level:g}: {'-' if auc is None else f'{auc:.2f}'}{'*' if row.measured[level] < 0.9 else ''}"
            for level, auc in row.auc.items()
        ]
        monotonic = "" if row.monotonic is None else f"{row.monotonic:+.2f}"
        name = f"{row.value} (blind)" if row.blind else row.value
        table.add_row(row.damage, name, "  ".join(cells), monotonic)
    return table
