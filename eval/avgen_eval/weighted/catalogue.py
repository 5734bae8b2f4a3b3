"""What each metric needs: which weights, under which licence, which streams and texts of a clip."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from avgen_eval.weighted.weights import (
    Located,
    Sources,
    Weights,
    WeightsError,
    WeightsUnavailableError,
)

Need = Literal["picture", "sound", "text", "reference", "transcript", "face"]
DEFAULT = "default"
_PACKAGE = "avgen_eval.weighted"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A metric.

    Attributes:
        name: As the user writes it.
        title: As papers write it.
        weights: Names of what it needs, in `WEIGHTS`.
        needs: What an item must have.
        target: ``module:Class`` in this package.
    """

    name: str
    title: str
    weights: tuple[str, ...]
    needs: tuple[Need, ...]
    target: str

    @property
    def non_commercial(self) -> bool:
        """Whether a licence among its weights forbids commercial use."""
        return any(WEIGHTS[name].non_commercial for name in self.weights)


def _by_name(*weights: Weights) -> dict[str, Weights]:
    return {entry.name: entry for entry in weights}


# Exported files are made by the user, so no size and hash of theirs is common to all. Those of the hub's folders
# hold for the revision beside them.
WEIGHTS: Mapping[str, Weights] = _by_name(
    Weights(
        name="synchformer",
        kind="exported",
        origin="https://github.com/v-iashin/Synchformer, model 24-01-04T16-39-21",
        licence="MIT (code; weights: not stated)",
    ),
    Weights(
        name="imagebind_video",
        kind="exported",
        origin="https://github.com/facebookresearch/ImageBind, imagebind_huge",
        licence="CC BY-NC-SA 4.0",
        non_commercial=True,
    ),
    Weights(
        name="imagebind_audio",
        kind="exported",
        origin="https://github.com/facebookresearch/ImageBind, imagebind_huge",
        licence="CC BY-NC-SA 4.0",
        non_commercial=True,
    ),
    Weights(
        name="syncnet",
        kind="exported",
        origin="https://github.com/joonson/syncnet_python, syncnet_v2.model",
        licence="MIT (code; weights: not stated)",
    ),
    Weights(
        name="clap",
        kind="pretrained",
        origin="https://huggingface.co/laion/clap-htsat-unfused",
        licence="Apache-2.0",
        repository="laion/clap-htsat-unfused",
        revision="8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a",
        tensors="pytorch_model.bin",
        size=614_525_833,
        sha256="1cd3c601bc4afe0fa87be3de4c13dd2cfadd249fac1e29acf74a9b296c3219bb",
    ),
    Weights(
        name="clip",
        kind="pretrained",
        origin="https://huggingface.co/openai/clip-vit-base-patch32",
        licence="MIT (code; the model card puts deployed use out of scope)",
        repository="openai/clip-vit-base-patch32",
        revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        tensors="pytorch_model.bin",
        size=605_247_071,
        sha256="a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
    ),
    Weights(
        name="i3d",
        kind="exported",
        origin="https://github.com/universome/stylegan-v, i3d_torchscript.pt",
        licence="Apache-2.0 (kinetics-i3d; the TorchScript copy: not stated)",
    ),
    Weights(
        name="vggish",
        kind="exported",
        origin="https://github.com/harritaylor/torchvggish",
        licence="Apache-2.0",
    ),
    Weights(
        name="passt",
        kind="exported",
        origin="https://github.com/kkoutini/passt_hear21, passt_s_swa_p16_128_ap476",
        licence="Apache-2.0",
    ),
    Weights(
        name="panns",
        kind="exported",
        origin="https://github.com/qiuqiangkong/audioset_tagging_cnn, Cnn14_16k",
        licence="MIT (code; weights: see their Zenodo record)",
    ),
    Weights(
        name="whisper",
        kind="pretrained",
        origin="https://huggingface.co/openai/whisper-large-v3",
        licence="Apache-2.0",
        repository="openai/whisper-large-v3",
        revision="06f233fe06e710322aca913c1bc4249a0d71fce1",
        tensors="model.safetensors",
        size=3_087_130_976,
        sha256="a8e94b85976e5864ba3e9525c7e6c83b2a1eca42d4b797a0c7c24d778e40fd95",
    ),
)

METRICS: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="desync",
            title="DeSync (Synchformer)",
            weights=("synchformer",),
            needs=("picture", "sound"),
            target="synchformer:DeSync",
        ),
        Entry(
            name="imagebind",
            title="ImageBind score",
            weights=("imagebind_video", "imagebind_audio"),
            needs=("picture", "sound"),
            target="imagebind:ImageBindScore",
        ),
        Entry(
            name="javis",
            title="JavisScore",
            weights=("imagebind_video", "imagebind_audio"),
            needs=("picture", "sound"),
            target="imagebind:JavisScore",
        ),
        Entry(
            name="lse",
            title="LSE-C and LSE-D (SyncNet)",
            weights=("syncnet",),
            needs=("picture", "sound", "face"),
            target="syncnet:LipSyncError",
        ),
        Entry(
            name="clap_score",
            title="CLAP score",
            weights=("clap",),
            needs=("sound", "text"),
            target="clap:ClapScore",
        ),
        Entry(
            name="clip_score",
            title="CLIP score",
            weights=("clip",),
            needs=("picture", "text"),
            target="clip:ClipScore",
        ),
        Entry(
            name="fvd",
            title="FVD (I3D)",
            weights=("i3d",),
            needs=("picture", "reference"),
            target="i3d:FrechetVideoDistance",
        ),
        Entry(
            name="fad",
            title="FAD (VGGish)",
            weights=("vggish",),
            needs=("sound", "reference"),
            target="vggish:FrechetAudioDistance",
        ),
        Entry(
            name="kl_passt",
            title="KL (PaSST)",
            weights=("passt",),
            needs=("sound", "reference"),
            target="tagging:TaggingKl",
        ),
        Entry(
            name="kl_panns",
            title="KL (PANNs)",
            weights=("panns",),
            needs=("sound", "reference"),
            target="tagging:TaggingKl",
        ),
        Entry(
            name="is_passt",
            title="IS (PaSST)",
            weights=("passt",),
            needs=("sound",),
            target="tagging:TaggingIs",
        ),
        Entry(
            name="is_panns",
            title="IS (PANNs)",
            weights=("panns",),
            needs=("sound",),
            target="tagging:TaggingIs",
        ),
        Entry(
            name="wer",
            title="WER and CER (Whisper)",
            weights=("whisper",),
            needs=("sound", "transcript"),
            target="whisper:SpeechErrorRate",
        ),
    )
}


def default_metrics() -> list[str]:
    """Metrics without non-commercial licences: what the default suite tries."""
    return [name for name, entry in METRICS.items() if not entry.non_commercial]


def choose(names: Iterable[str]) -> list[str]:
    """Metrics by name, each once; ``default`` stands for `default_metrics`.

    Raises:
        ValueError: There is no metric of a name.
    """
    chosen = [
        metric
        for name in names
        for metric in (default_metrics() if name == DEFAULT else [get_entry(name).name])
    ]
    return list(dict.fromkeys(chosen))


def get_entry(metric: str) -> Entry:
    """The metric of that name.

    Raises:
        ValueError: There is none.
    """
    if metric in METRICS:
        return METRICS[metric]
    users = [entry.name for entry in METRICS.values() if metric in entry.weights]
    fix = (
        f"{metric} is the name of weights of {' and '.join(users)}; give --metric {users[0]}"
        if users
        else f"choose from {', '.join(METRICS)}"
    )
    raise ValueError(f"metric {metric!r} does not exist; {fix}")


def check_given(metrics: Iterable[str], sources: Sources) -> None:
    """Refuse what the user gave and cannot have meant, before any work is done.

    Args:
        metrics: Names of the catalogue, from `choose`.
        sources: Whose given paths are looked at.

    Raises:
        WeightsError: A path has a name that no metric here uses, is not there, is a file where a folder is needed or
            the reverse, or has another hash than the one given with it.
    """
    check_names(sources)
    users = {name: metric for metric in metrics for name in METRICS[metric].weights}
    for name in sources.given:
        if name not in users:
            metric = next(entry.name for entry in METRICS.values() if name in entry.weights)
            raise WeightsError(
                f"--weights {name}: no metric that was asked for uses it; add --metric {metric}"
            )
        with suppress(WeightsUnavailableError):
            sources.find(WEIGHTS[name], users[name])


def check_names(sources: Sources) -> None:
    """Refuse paths for weights that do not exist.

    Raises:
        WeightsError: A name is a metric's or unknown.
    """
    for name in sources.given:
        if name in WEIGHTS:
            continue
        entry = METRICS.get(name)
        fix = (
            f"{name} is a metric, whose weights are called {', '.join(entry.weights)}"
            if entry
            else f"choose from {', '.join(WEIGHTS)}"
        )
        raise WeightsError(f"--weights {name}: there are no weights of that name; {fix}")


def locate(metric: str, sources: Sources) -> list[Located]:
    """All weights of a metric, found and checked.

    Raises:
        ValueError: There is no such metric.
        WeightsError: As `Sources.find` and `check_names`.
    """
    check_names(sources)
    return [sources.find(WEIGHTS[name], metric) for name in get_entry(metric).weights]


def get_class(metric: str) -> Any:
    """Its class, a kind of `WeightedMetric`; imports what it needs.

    Raises:
        ValueError: There is no such metric.
    """
    module, _, name = get_entry(metric).target.partition(":")
    return getattr(import_module(f"{_PACKAGE}.{module}"), name)


def open_metric(metric: str, located: list[Located], device: str = "cpu") -> Any:
    """The metric, with its weights loaded.

    Raises:
        WeightsError: The weights are not what it needs.
    """
    paths = {entry.weights.name: entry.path for entry in located}
    return get_class(metric).from_files(paths, device)
