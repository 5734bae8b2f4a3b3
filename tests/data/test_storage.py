import pickle
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import range_server

from avgen.data.datamodule import LatentDataModule
from avgen.data.dataset import LatentDataset
from avgen.data.loader import StepLoader
from avgen.data.schema import INFO, MANIFEST, DatasetError
from avgen.data.storage import open_storage


@pytest.fixture
def server(dataset: Path) -> Iterator[range_server.RangeServer]:
    with range_server.serving(dataset) as server:
        yield server


@pytest.fixture
def in_memory(dataset: Path) -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    for path in dataset.iterdir():
        if path.is_file():
            fs.pipe_file(f"/store/{path.name}", path.read_bytes())
    yield "memory://store"
    fs.rm("/store", recursive=True)


def seen(module: LatentDataModule) -> list[tuple]:
    return [
        (b.ids, [c.text for c in b.captions], b.video.sum().item(), b.step)
        for b in module.train_dataloader()
    ]


def test_a_store_gives_the_batches_of_the_folder(dataset: Path, in_memory: str) -> None:
    local = seen(LatentDataModule([str(dataset)], batch_size=4))
    assert seen(LatentDataModule([in_memory], batch_size=4)) == local
    assert seen(LatentDataModule([f"file://{dataset}"], batch_size=4)) == local
    assert isinstance(LatentDataset(f"file://{dataset}").folder, Path)


def test_a_web_server_gives_them_by_ranges_alone(
    dataset: Path, server: range_server.RangeServer
) -> None:
    local = seen(LatentDataModule([str(dataset)], batch_size=4))
    assert seen(LatentDataModule([server.url], batch_size=4)) == local
    shards = [span for name, span in server.asked if name.endswith(".tar")]
    assert None not in shards
    drawn = sum(len(ids) for ids, *_ in local)
    assert len(shards) == drawn  # captions and latents of an example lie side by side: one request


def test_a_passing_fault_is_waited_out(server: range_server.RangeServer) -> None:
    opened = LatentDataset(server.url)
    server.failures = 2
    assert opened[3]["id"] == "e003"
    server.failures = 3
    with pytest.raises(DatasetError, match=r"cannot be read after 3 attempts.*503"):
        opened[4]


def test_a_server_without_ranges_is_refused(server: range_server.RangeServer) -> None:
    server.ranges = False
    with pytest.raises(DatasetError, match="ignores byte ranges"):
        LatentDataset(server.url)[0]


@pytest.mark.parametrize("place", ["memory", "server"])
def test_missing_and_truncated_shards_are_refused_when_opened(
    dataset: Path, place: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("in_memory" if place == "memory" else "server")
    if place == "server":
        url = url.url
    LatentDataset(url)

    def change(name: str, data: bytes | None) -> None:
        if place == "memory":
            fs = fsspec.filesystem("memory")
            fs.rm(f"/store/{name}") if data is None else fs.pipe_file(f"/store/{name}", data)
        elif data is None:
            (dataset / name).unlink()
        else:
            (dataset / name).write_bytes(data)

    whole = (dataset / "shard-00001.tar").read_bytes()
    change("shard-00001.tar", whole[:-1000])
    with pytest.raises(DatasetError, match=rf"{url}/shard-00001.tar: \d+ bytes long instead of \d"):
        LatentDataset(url)
    change("shard-00001.tar", None)
    with pytest.raises(DatasetError, match=f"{url}/shard-00001.tar: missing"):
        LatentDataset(url)
    change("shard-00001.tar", whole)
    manifest = (dataset / MANIFEST).read_bytes()
    change(MANIFEST, manifest[:-10])
    with pytest.raises(DatasetError, match=rf"{url}/manifest\.parquet: damaged"):
        LatentDataset(url)
    change(INFO, None)
    with pytest.raises(DatasetError, match=rf"{url}: holds no dataset\.json"):
        LatentDataset(url)


def test_a_shard_lost_or_cut_while_training_ends_it_with_its_name(
    dataset: Path, server: range_server.RangeServer
) -> None:
    module = LatentDataModule([server.url], batch_size=4, val_fraction=0)
    module.setup()
    shard = dataset / "shard-00001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:1000])
    with pytest.raises(DatasetError, match=r"shard-00001\.tar: (\d+ of|cannot be read)"):
        seen(module)
    shard.unlink()
    with pytest.raises(DatasetError, match=r"shard-00001\.tar: missing"):
        seen(module)
    assert not [t for t in threading.enumerate() if t.name.startswith("avgen-read")]


def test_unknown_protocols_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"no fsspec driver.*install it"):
        LatentDataset("nowhere://bucket/data")


def test_storage_is_pickled_without_its_connections(dataset: Path, in_memory: str) -> None:
    for place in (dataset, in_memory):
        storage = open_storage(place)
        first = storage.read("shard-00000.tar", 512, 40)
        again = pickle.loads(pickle.dumps(storage))
        assert again.location == storage.location
        assert again.read("shard-00000.tar", 512, 40) == first


def test_ranges_close_together_are_one_read(dataset: Path) -> None:
    storage = open_storage(dataset)
    whole = (dataset / "shard-00000.tar").read_bytes()
    reads: list[tuple[int, int]] = []
    read = storage.read

    def counted(name: str, offset: int, size: int) -> bytes:
        reads.append((offset, size))
        return read(name, offset, size)

    storage.read = counted  # type: ignore[method-assign]
    ranges = [(9000, 10), (0, 100), (600, 50), (120, 30), (50, 20)]
    parts = storage.read_ranges("shard-00000.tar", ranges)
    assert parts == [whole[start : start + size] for start, size in ranges]
    assert reads == [(0, 650), (9000, 10)]


def test_files_opened_stay_few_and_threads_share_them(dataset: Path) -> None:
    storage = open_storage(dataset)
    storage.max_open = 1  # type: ignore[attr-defined]
    whole = {p.name: p.read_bytes() for p in dataset.glob("*.tar")}
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(300):
            name = f"shard-0000{(number + turn) % 3}.tar"
            offset = 512 * (turn % 7)
            if storage.read(name, offset, 64) != whole[name][offset : offset + 64]:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(storage._files) <= 8  # type: ignore[attr-defined]


def test_reading_ahead_changes_nothing_and_stays_within_its_bytes(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = seen(LatentDataModule([str(dataset)], batch_size=4, read_ahead_bytes=0))
    lock = threading.Lock()
    for limit in (1, 20_000, 1 << 30):
        module = LatentDataModule(
            [str(dataset)], batch_size=4, read_ahead_bytes=limit, cache_bytes=0
        )
        module.setup()
        opened = module.datasets[0]
        used, most = 0, 0
        fetch, example = opened.fetch, opened.example

        def fetched(index: int, fetch=fetch) -> object:
            nonlocal used, most
            members = fetch(index)
            with lock:
                used += sum(map(len, members.values()))
                most = max(most, used)
            return members

        def made(index: int, members: dict, example=example) -> object:
            nonlocal used
            with lock:
                used -= sum(map(len, members.values()))
            return example(index, members)

        monkeypatch.setattr(opened, "fetch", fetched)
        monkeypatch.setattr(opened, "example", made)
        assert seen(module) == plain
        one_batch = 4 * max(opened.num_bytes(i) for i in range(len(opened)))
        assert 0 < most <= max(limit, one_batch)
        assert used == 0


def test_reading_ahead_overlaps_the_waits_of_a_slow_store(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several reads are under way at once; counted, not timed."""
    module = LatentDataModule([str(dataset)], batch_size=4, cache_bytes=0)
    module.setup()
    opened = module.datasets[0]
    barrier = threading.Barrier(8, timeout=30)
    first = iter(range(8))
    fetch = opened.fetch

    def fetched(index: int) -> object:
        if next(first, None) is not None:
            barrier.wait()  # passes only if eight reads, of two batches, are under way together
        return fetch(index)

    monkeypatch.setattr(opened, "fetch", fetched)
    assert len(seen(module)) >= 5


def test_a_loop_that_stops_early_leaves_no_threads(dataset: Path) -> None:
    loader = LatentDataModule([str(dataset)], batch_size=4).train_dataloader()
    assert isinstance(loader, StepLoader)
    batches = iter(loader)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("avgen-read")]


def test_messages_carry_no_credentials_of_the_driver(in_memory: str) -> None:
    with pytest.raises(DatasetError) as error:
        open_storage(in_memory).read("shard-00009.tar", 0, 10)
    assert re.fullmatch(r"memory://store/shard-00009\.tar: missing; .*", str(error.value))
