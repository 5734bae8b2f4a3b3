"""A dataset to the layout of another tool."""

from pathlib import Path

from avgen.data.dataset import MediaDataset
from avgen.data.schema import DatasetError
from avgen_data_prep.formats.entry import Format, exported


def export_dataset(layout: Format, dataset: str | Path, out: Path) -> int:
    """Write the clips of a dataset in another layout.

    Args:
        layout: One of `avgen_data_prep.formats.FORMATS`.
        dataset: Dataset with MP4 members; its latents and text features stay behind.
        out: Folder that is missing or empty.

    Returns:
        Number of clips.

    Raises:
        DatasetError: The dataset is unusable or holds clips without media, or ``out`` is in use.
    """
    opened = MediaDataset(dataset)
    without = opened.manifest["media_offset"].null_count
    if without:
        raise DatasetError(
            f"{dataset}: {without} of {len(opened)} clips have no media to export; "
            "make the dataset with --media"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out}: is not an empty folder; export into a new one")
    out.mkdir(parents=True, exist_ok=True)
    layout.write(out, exported(opened))
    return len(opened)
