"""A run: scan a folder, take what is left to do through the stages, write the manifest."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from avgen.data.schema import atomic
from avgen_data_prep.build import Record, folder_lock
from avgen_data_prep.pipeline.executors import Executor
from avgen_data_prep.pipeline.manifest import write_manifest
from avgen_data_prep.pipeline.process import Outcome, Processor, Settings
from avgen_data_prep.pipeline.sources import read_stamps, write_sources
from avgen_data_prep.pipeline.spec import Pipeline, PipelineError
from avgen_data_prep.pipeline.stage import Row
from avgen_data_prep.scan import MediaFile, scan

PIPELINE = "pipeline.yaml"
RATES = "rates.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A folder of sources, a folder to work in, and the stages between them.

    Attributes:
        sources: Folder of media files, searched with all below it.
        folder: Ledger, clips and manifests.
        pipeline: The stages.
        limit: Only the first sources, in order of their paths; 0 takes all.
        only: Work on this stage and what it needs; None: on all.
        retry_failed: Try again what failed before.
    """

    sources: Path
    folder: Path
    pipeline: Pipeline
    limit: int = 0
    only: str | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        if not self.sources.is_dir():
            raise PipelineError(f"{self.sources}: no such folder; give a folder of media files")
        if self.only is not None:
            self.pipeline.needed_for(self.only)

    @property
    def settings(self) -> Settings:
        """What workers are told."""
        return Settings(
            pipeline=self.pipeline.to_yaml(),
            sources=str(self.sources.resolve()),
            folder=str(self.folder.resolve()),
            retry_failed=self.retry_failed,
            only=self.only,
        )

    def scan(self) -> tuple[list[MediaFile], list[Record]]:
        """The media files, and a record of every other file.

        Raises:
            PipelineError: There are no media files.
        """
        files, records = scan(self.sources, self.folder, read_stamps(self.folder))
        if not files:
            raise PipelineError(f"{self.sources}: holds no media files")
        return files, records

    def _rows(self, files: Sequence[MediaFile]) -> list[Row]:
        return [file.row() for file in files[: self.limit or None]]

    def plan(self) -> Counter[str]:
        """How many sources each stage is still needed for; nothing is written."""
        processor = Processor(self.settings)
        sources = self._rows(self.scan()[0])
        return Counter(name for source in sources for name in processor.pending(source))

    def execute(
        self, executor: Executor, progress: Callable[[int, int], None] | None = None
    ) -> "Report":
        """Do what is left and write the manifests.

        Args:
            executor: What schedules the sources.
            progress: Called with the number of sources that are done and of all.

        Raises:
            PipelineError: The run cannot go on.
            DatasetError: Another process works in the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with folder_lock(self.folder):
            files, records = self.scan()
            sources = self._rows(files)
            write_sources(self.folder, files, self.limit)
            with atomic(self.folder / PIPELINE) as temporary:
                temporary.write_text(self.pipeline.to_yaml())
            report = Report()
            done = self._work(executor, sources, report, progress or (lambda *_: None))
            self._save_rates(done)
            report.clips, report.failed = write_manifest(
                self.folder, self.pipeline, sources, records
            )
            return report

    def _work(
        self,
        executor: Executor,
        sources: Sequence[Row],
        report: "Report",
        progress: Callable[[int, int], None],
    ) -> list[Outcome]:
        processor = Processor(self.settings)
        by_hash = {source["source_sha256"]: source for source in sources}
        todo = [s for s in by_hash.values() if self.retry_failed or processor.pending(s)]
        report.sources, report.kept = len(sources), len(sources) - len(todo)
        progress(report.kept, report.sources)
        outcomes = []
        for outcome in executor.run(self.settings, todo) if todo else ():
            outcomes.append(outcome)
            progress(report.kept + len(outcomes), report.sources)
        return outcomes

    def _save_rates(self, outcomes: Sequence[Outcome]) -> None:
        """Add up how long stages took, for plans; these are not part of the results."""
        path = self.folder / RATES
        rates = json.loads(path.read_text()) if path.is_file() else {}
        for outcome in outcomes:
            for stage, seconds in outcome.seconds.items():
                key = self.pipeline.keys[stage]
                if rates.get(stage, {}).get("key") != key:  # other parameters are another stage
                    rates[stage] = {"key": key, "rows": 0, "seconds": 0.0}
                entry = rates[stage]
                entry["rows"] += outcome.rows[stage]
                entry["seconds"] += seconds
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(rates, indent=1, sort_keys=True) + "\n")


@dataclass
class Report:
    """What a run did.

    Attributes:
        sources: Sources found, duplicates left out.
        kept: Of them, those whose results were there already.
        clips: Rows of the manifest.
        failed: Rows of what is not in it.
    """

    sources: int = 0
    kept: int = 0
    clips: int = 0
    failed: int = 0
