"""Where weights come from, and what is said where they do not."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from avgen_eval.weighted.weights import (
    TENSOR_FILES,
    Given,
    Sources,
    Weights,
    WeightsError,
    WeightsUnavailableError,
    cache_folder,
    environment_folder,
    parse_weights,
    sha256_of,
)

NET = Weights(name="net", kind="exported", origin="https://example.org", licence="MIT")
HUB = Weights(
    name="hub",
    kind="pretrained",
    origin="hub",
    licence="Apache-2.0",
    repository="owner/model",
    revision="abc",
)
CLOSED = Weights(
    name="net", kind="exported", origin="x", licence="CC BY-NC-SA 4.0", non_commercial=True
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """A file of its own in each place."""
    made = {}
    for place in ("given", "folder", "cache"):
        (tmp_path / place).mkdir()
        made[place] = tmp_path / place / "net.pt2"
        made[place].write_text(place)
    return made


def sources(places: dict[str, Path], **changes: Any) -> Sources:
    fields: dict[str, Any] = {
        "given": {"net": Given(path=places["given"])},
        "folder": places["folder"].parent,
        "cache": places["cache"].parent,
    }
    return Sources(**{**fields, **changes})


def test_a_given_path_beats_the_folder_beats_the_cache(places):
    for source in ("given", "folder", "cache"):
        found = sources(places, given=sources(places).given if source == "given" else {}).find(
            NET, "metric"
        )
        assert (found.source, found.path, found.sha256) == (source, places[source], sha(source))
        places[source].unlink()


def test_file_names_are_tried_in_order(places):
    for name in ("net.pt", "net.onnx"):
        (places["folder"].parent / name).write_text(name)
    found = [sources(places, given={}).find(NET, "m").path.name]
    for _ in range(2):
        (places["folder"].parent / found[-1]).unlink()
        found.append(sources(places, given={}).find(NET, "m").path.name)
    assert found == ["net.pt2", "net.onnx", "net.pt"]


def test_the_environment_names_folder_and_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("AVGEN_WEIGHTS", raising=False)
    monkeypatch.delenv("AVGEN_CACHE", raising=False)
    assert environment_folder() is None
    assert cache_folder() == Path.home() / ".cache" / "avgen" / "weights"
    monkeypatch.setenv("AVGEN_WEIGHTS", str(tmp_path / "mine"))
    monkeypatch.setenv("AVGEN_CACHE", str(tmp_path / "cache"))
    found = Sources()
    assert (found.folder, found.cache) == (tmp_path / "mine", tmp_path / "cache" / "weights")
    with pytest.raises(WeightsError, match=r"AVGEN_WEIGHTS is .*mine, which is not a folder"):
        found.find(NET, "metric")


def test_missing_weights_say_all_that_is_known_in_one_line(tmp_path):
    nowhere = Sources(folder=None, cache=tmp_path)
    with pytest.raises(WeightsUnavailableError) as caught:
        nowhere.find(NET, "desync")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "desync needs weights net",
        "file net.pt2",
        "size unknown",
        "licence MIT",
        "sha256 unknown",
        "AVGEN_WEIGHTS",
        str(tmp_path),
        "--weights net=PATH",
        "docs/metrics-with-weights.md#net",
    ):
        assert part in message
    assert "download" not in message
    with pytest.raises(WeightsUnavailableError, match=r"download of owner/model with --allow-down"):
        nowhere.find(HUB, "m")
    known = Weights(
        name="net", kind="exported", origin="x", licence="MIT", size=12, sha256="ab" * 32
    )
    with pytest.raises(WeightsUnavailableError, match=f"size 12 bytes.*sha256 {'ab' * 32}"):
        nowhere.find(known, "m")


def test_a_given_path_that_is_not_there_is_an_error_and_no_skip(tmp_path):
    wrong = Sources(
        given={"net": Given(path=tmp_path / "gone.pt2")}, folder=tmp_path, cache=tmp_path
    )
    (tmp_path / "net.pt2").write_text("not asked for")
    with pytest.raises(WeightsError, match=r"gone.pt2: there is no such file; check") as caught:
        wrong.find(NET, "metric")
    assert not isinstance(caught.value, WeightsUnavailableError)


def test_a_file_is_no_folder_and_a_device_is_neither(tmp_path):
    (tmp_path / "net.pt2").write_text("tensors")

    def refused(weights: Weights, path: Path, message: str) -> None:
        places = Sources(
            given={weights.name: Given(path=path)}, folder=None, cache=tmp_path / "cache"
        )
        with pytest.raises(WeightsError, match=message) as caught:
            places.find(weights, "metric")
        assert not isinstance(caught.value, WeightsUnavailableError)

    refused(HUB, tmp_path / "net.pt2", r"net.pt2 is a file; give the folder that .*\.md#hub$")
    refused(NET, tmp_path, r"is a folder; give a file: an exported model \(.pt2, .*\.md#net$")
    refused(NET, Path("/dev/zero"), "/dev/zero is neither; give a file")  # it would not end


def test_a_file_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    (tmp_path / "net.pt2").write_text("tensors")

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WeightsError, match=r"net.pt2 cannot be read: Permission denied; check its"):
        sha256_of(tmp_path / "net.pt2")


def test_hashes_are_checked_and_both_are_named(places):
    right, wrong = sha("given"), "0" * 64
    for expected in (right, right.upper()):
        parsed = parse_weights([f"net={places['given']}#sha256={expected}"])
        assert sources(places, given=parsed).find(NET, "m").sha256 == right
    parsed = parse_weights([f"net={places['given']}#sha256={wrong}"])
    with pytest.raises(WeightsError, match=f"has sha256 {right}, but {wrong} is expected"):
        sources(places, given=parsed).find(NET, "m")


def test_a_known_hash_holds_for_what_was_downloaded_and_not_for_the_users_own(places):
    known = Weights(name="net", kind="exported", origin="x", licence="MIT", sha256=sha("cache"))
    assert sources(places).find(known, "m").sha256 == sha("given")
    assert sources(places, given={}).find(known, "m").sha256 == sha("folder")
    assert sources(places, given={}, folder=None).find(known, "m").source == "cache"
    places["cache"].write_text("damaged")
    with pytest.raises(WeightsError, match=f"has sha256 .*, but {sha('cache')} is expected"):
        sources(places, given={}, folder=None).find(known, "m")


def test_a_changed_file_is_hashed_again(places):
    assert sha256_of(places["given"]) == sha("given")
    places["given"].write_text("something longer")
    assert sha256_of(places["given"]) == sha("something longer")


def test_non_commercial_weights_need_consent_even_where_they_are_given(places):
    with pytest.raises(WeightsUnavailableError, match=r"CC BY-NC-SA 4.0.*--non-commercial"):
        sources(places).find(CLOSED, "imagebind")
    found = sources(places, non_commercial=True).find(CLOSED, "imagebind")
    assert found.to_dict() == {
        "name": "net",
        "sha256": sha("given"),
        "licence": "CC BY-NC-SA 4.0",
        "non_commercial": True,
        "source": "given",
    }


def test_options_are_parsed(tmp_path):
    digest = "Ab" * 32
    parsed = parse_weights(
        [f"a={tmp_path}/x=1#2.pt2", f"b=~/b.pt2#sha256={digest}", "c=dir#sha256=/x"][:2]
    )
    assert parsed["a"] == Given(path=tmp_path / "x=1#2.pt2")
    assert parsed["b"] == Given(path=Path.home() / "b.pt2", sha256=digest.lower())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["net"], "give name=path"),
        (["=path"], "give name=path"),
        (["net="], "give name=path"),
        (["net=x#sha256=12"], "not 64 hexadecimal digits"),
        (["net=x#sha256=" + "g" * 64], "not 64 hexadecimal digits"),
        (["net=x", "net=y"], "net is given twice"),
    ],
)
def test_options_of_another_form_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        parse_weights(options)


def test_the_hash_of_a_folder_is_that_of_its_tensors(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"neither model.safetensors nor pytorch_model.bin"):
        sha256_of(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match="tensors are in several files"):
        sha256_of(tmp_path)
    (tmp_path / "pytorch_model.bin").write_text("bin")
    assert sha256_of(tmp_path) == sha("bin")
    (tmp_path / "model.safetensors").write_text("tensors")
    assert sha256_of(tmp_path) == sha("tensors")


class Hub:
    """Stands in for the hub: writes those of its files that are asked for."""

    def __init__(self, *files: str, broken: bool = False) -> None:
        self.files, self.broken, self.calls = files, broken, 0

    def __call__(
        self, repository: str, *, revision: str, local_dir: Path, allow_patterns: list[str]
    ) -> str:
        self.calls += 1
        assert (repository, revision) == ("owner/model", "abc")
        for name in self.files:
            if name in allow_patterns or "*" + Path(name).suffix in allow_patterns:
                (Path(local_dir) / name).write_text(json.dumps(name))
        if self.broken:
            raise OSError("connection lost\nand more lines")
        return str(local_dir)


@pytest.mark.parametrize("tensors", ["model.safetensors", "pytorch_model.bin"])
def test_a_download_happens_once_and_only_when_it_is_allowed(monkeypatch, tmp_path, tensors):
    hub = Hub("config.json", *TENSOR_FILES, "flax_model.msgpack")
    known = replace(HUB, tensors=tensors, sha256=sha(f'"{tensors}"'))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    with pytest.raises(WeightsUnavailableError):
        Sources(folder=None, cache=tmp_path / "cache").find(HUB, "m")
    assert hub.calls == 0
    allowed = Sources(folder=None, cache=tmp_path / "cache", allow_download=True)
    first, second = (allowed.find(known, "m") for _ in range(2))
    assert (first.source, second.source, hub.calls) == ("download", "cache", 1)
    assert {path.name for path in first.path.iterdir()} == {"config.json", tensors}
    assert first.sha256 == second.sha256 == sha(f'"{tensors}"')
    with pytest.raises(WeightsUnavailableError):  # nothing is published for this one
        allowed.find(NET, "m")


@pytest.mark.parametrize(
    ("hub", "message"),
    [
        (Hub("config.json", "model.safetensors", broken=True), "OSError: connection lost$"),
        (Hub("config.json"), "neither model.safetensors"),
        (Hub("config.json", "model.safetensors"), f"but {'0' * 64} is expected"),
    ],
)
def test_a_download_that_fails_leaves_nothing(monkeypatch, tmp_path, hub, message):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    with pytest.raises(WeightsError, match=f"download of owner/model failed: .*{message}"):
        Sources(folder=None, cache=tmp_path, allow_download=True).find(
            replace(HUB, sha256="0" * 64), "m"
        )
    assert list(tmp_path.iterdir()) == []
