"""``avgen eval``: measure clips, weights on held-out captions, or codecs."""

import sys

HARNESS = ("run", "extract", "score", "compare", "report", "ls", "validate")
USAGE = """usage: avgen eval CLIPS... [options]    (the same as avgen eval run CLIPS...)
       avgen eval run | extract | score | compare | report | ls | validate
       avgen eval worlds [--weights NAME] [--world NAME]... [--reference] [options]
       avgen eval codecs [--weights NAME] [--world NAME]... [options]
       avgen eval tasks [--task NAME]... [--weights NAME] [--world NAME]... [--reference] [options]
       avgen eval honesty [--check NAME]... [--weights NAME] [--world NAME]... [--reference] [options]
       avgen eval selftest [--count N] [--json FILE]
       avgen eval ablations run | write | codecs

Measure when things are heard and seen in clips, against when they were asked for, and much else.
CLIPS are files, folders, or a manifest (.jsonl); avgen eval VERB --help says more of each verb.
"""


def main(argv: list[str]) -> int:
    """Run ``avgen eval``; returns the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        (sys.stdout if argv else sys.stderr).write(USAGE)
        return 0 if argv else 2
    verb, rest = argv[0], argv[1:]
    if verb in ("worlds", "codecs"):
        from avgen_eval.cli_suites import run

        return run(verb, rest)
    if verb == "tasks":
        from avgen_eval.tasks.command import main as run_tasks

        return run_tasks(rest)
    if verb == "honesty":
        from avgen_eval.honesty.command import main as run_honesty

        return run_honesty(rest)
    if verb == "selftest":
        from avgen_eval.selftest.command import main as run_selftest

        return run_selftest(rest)

    if verb == "ablations":
        from avgen_eval.ablations.command import main as run_ablations

        return run_ablations(rest)

    from avgen_eval.harness.cli import run as run_harness

    return run_harness(verb, rest) if verb in HARNESS else run_harness("run", argv)
