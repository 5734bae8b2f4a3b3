"""Datasets of other tools: exporting to their layouts, and importing from them.

`FORMATS` maps the names that ``avgen prep export`` and ``avgen prep import`` take to what does it.
"""

from avgen_data_prep.formats import folder, huggingface, ltx, webdataset
from avgen_data_prep.formats.entry import Format
from avgen_data_prep.formats.export import export_dataset
from avgen_data_prep.formats.importing import ImportSource, import_dataset

__all__ = ["FORMATS", "Format", "ImportSource", "export_dataset", "import_dataset"]

FORMATS: dict[str, Format] = {
    "huggingface": huggingface.FORMAT,
    "webdataset": webdataset.FORMAT,
    "ltx-csv": ltx.CSV,
    "ltx-jsonl": ltx.JSONL,
    "folder": folder.FORMAT,
}
