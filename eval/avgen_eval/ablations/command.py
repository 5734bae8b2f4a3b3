"""``avgen eval ablations``: train and measure variants, and write what they say."""

import argparse
from pathlib import Path

from avgen_eval.ablations.study import find_question, find_variant, studies

ROWS = Path("eval/results/ablations.jsonl")
PAGE = Path("docs/ablations.md")


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    options = _parser().parse_args(argv)
    if options.verb == "write":
        from avgen_eval.ablations.page import write_page

        write_page(options.rows, options.page)
    else:
        from avgen_eval.ablations.rows import run

        run(_variants(options), options.seed, options.work, options.rows)
    return 0


def _variants(options: argparse.Namespace) -> list[str]:
    """Variants named, those of the questions named, or all; each once."""
    names = [find_variant(name).name for name in options.variant]
    names += [v for name in options.question for v in find_question(name).variants]
    return list(dict.fromkeys(names or studies()[0]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="avgen eval ablations", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    add = verbs.add_parser("run", help="train and measure what has no row yet").add_argument
    add("--work", type=Path, required=True, help="folder of codecs, data and trained weights")
    add("--question", action="append", default=[], help=f"{', '.join(studies()[1])}; repeatable")
    add("--variant", action="append", default=[], help="repeatable (default: all)")
    add("--seed", type=int, nargs="+", default=[0, 1, 2], help="seeds of training (0 1 2)")
    add("--rows", type=Path, default=ROWS, help=f"where rows are added ({ROWS})")
    add = verbs.add_parser("write", help="write the page of tables and plots").add_argument
    add("--rows", type=Path, default=ROWS, help=f"rows ({ROWS})")
    add("--page", type=Path, default=PAGE, help=f"page ({PAGE})")
    return parser
