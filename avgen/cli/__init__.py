"""The ``avgen`` command: a table of verbs, nothing heavy imported before one is chosen."""

import sys
from importlib import import_module

VERBS = {
    "generate": ("avgen.cli.generate:main", "make a clip from a timed caption"),
    "train": ("avgen.cli.train:main", "train by a recipe (LightningCLI)"),
    "eval": ("avgen_eval.cli:main", "measure clips, codecs or weights"),
    "prep": ("avgen_data_prep.cli:main", "make training data from files or procedural worlds"),
    "plan": (
        "avgen_data_prep.plan.command:main",
        "what a corpus or a training run takes: memory, hours, money",
    ),
    "recipes": ("avgen.cli.recipes:main", "list, show or copy the recipes"),
    "demo": ("avgen.cli.demo:main", "generate, measure, fine-tune and write a report"),
    "bench": (
        "avgen_eval.bench.command:main",
        "time codecs, attention, training, sampling and generation beside peers",
    ),
    "doctor": (
        "avgen.cli.doctor:main",
        "what is installed, which attention backend is used and why",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        return 0
    if arguments[0] in ("-V", "--version"):
        from avgen import __version__

        sys.stdout.write(f"avgen {__version__}\n")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        sys.stderr.write(f"avgen: {verb!r} is not a verb; use one of {', '.join(VERBS)}\n")
        return 2
    module, function = VERBS[verb][0].split(":")
    try:
        return int(getattr(import_module(module), function)(rest) or 0)
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"avgen {verb}: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"avgen {verb}: stopped\n")
        return 130


def _help() -> str:
    lines = ["usage: avgen VERB [options]    (avgen VERB --help says more)", ""]
    lines += [f"  {verb:10}{text}" for verb, (_, text) in VERBS.items()]
    return "\n".join([*lines, ""])
