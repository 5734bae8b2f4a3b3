"""``avgen prep annotate | audit | export | import``: what people do with clips and datasets."""

import argparse
from pathlib import Path
from typing import Any

from avgen_data_prep.cli_console import console, counting_bar, say

FORMATS = ("huggingface", "webdataset", "ltx-csv", "ltx-jsonl", "folder")


def add_commands(commands: Any) -> None:
    """Add the verbs to the parser of ``avgen prep``."""
    annotate = commands.add_parser("annotate", help="write captions by hand, in a browser")
    annotate.add_argument("folder", type=Path, metavar="WORK", help="folder of a run")
    annotate.add_argument("--host", default="127.0.0.1", help="(%(default)s)")
    annotate.add_argument("--port", type=int, default=8765, help="0: any free (%(default)s)")
    annotate.set_defaults(run=_annotate)

    audit = commands.add_parser("audit", help="what a release of a dataset would need")
    audit.add_argument("folder", type=Path, metavar="DATASET", help="dataset, or folder of a run")
    audit.add_argument("--exclude", type=Path, metavar="FILE", help="hashes never to train on")
    audit.add_argument("--json", type=Path, metavar="FILE")
    audit.set_defaults(run=_audit)

    export = commands.add_parser("export", help="write a dataset in the layout of another tool")
    export.add_argument("format", choices=FORMATS)
    export.add_argument("dataset", type=Path, metavar="DATASET")
    export.add_argument("out", type=Path, metavar="OUT", help="new folder")
    export.set_defaults(run=_export)

    into = commands.add_parser("import", help="make a dataset of the layout of another tool")
    into.add_argument("format", choices=FORMATS)
    into.add_argument("place", type=Path, metavar="IN", help="folder, or its metadata file")
    into.add_argument("out", type=Path, metavar="OUT", help="folder of the dataset")
    into.add_argument("--workers", type=int, default=0, help="processes; 0 works in this one")
    into.set_defaults(run=_import)


def _annotate(options: argparse.Namespace) -> int:
    from avgen_data_prep.annotate.server import run

    run(options.folder, options.host, options.port)
    return 0


def _audit(options: argparse.Namespace) -> int:
    from avgen_data_prep.audit import audit

    found = audit(options.folder, exclude=options.exclude)
    for part in found.tables():
        console.print(part)
    if options.json:
        options.json.write_text(found.to_json())
        say(f"figures: {options.json}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from avgen_data_prep.formats import FORMATS as LAYOUTS
    from avgen_data_prep.formats import export_dataset

    number = export_dataset(LAYOUTS[options.format], options.dataset, options.out)
    say(f"{options.out}: {number} clips as {options.format}")
    return 0


def _import(options: argparse.Namespace) -> int:
    from avgen_data_prep.formats import FORMATS as LAYOUTS
    from avgen_data_prep.formats import ImportSource, import_dataset

    source = ImportSource(LAYOUTS[options.format], options.place)
    total = len(source.scanned[0])
    with counting_bar(f"writing {options.out.name}", "clips", total) as advance:
        info, records = import_dataset(
            source.layout, options.place, options.out, workers=options.workers, progress=advance
        )
    say(f"{options.out}: {info.num_examples} clips; {len(records)} entries were not usable")
    return 0 if info.num_examples else 1
