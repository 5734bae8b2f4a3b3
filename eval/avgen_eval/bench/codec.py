"""The codecs beside autoencoders of equal compression and about equal parameters, all with random weights.

Video: `VideoVAE` beside the causal autoencoders of diffusers (Apache-2.0), four frames and 8x8 pixels per latent.
Sound: the project's network at the architecture of EnCodec at 24 kHz and the small project codec, beside the
``encodec`` package and the mel autoencoder and vocoder of LTX-2 in diffusers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from avgen import clock
from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.base import AudioCodec
from avgen.codecs.encodec_adapter import build_encodec
from avgen.codecs.video_vae import VideoVAE
from avgen_eval.bench.setup import Result, Setup, count_parameters
from avgen_eval.bench.timing import Comparison, Prepared

TIME_STRIDE, SPACE_STRIDE, LATENT_CHANNELS = 4, 8, 16
SIZES = {"cpu": 64, "cuda": 256}


class Half(NamedTuple):
    """The encoder or the decoder of a codec: what it does once, and the modules that run."""

    run: Callable[[], object]
    modules: tuple[nn.Module, ...]


class Codec(NamedTuple):
    """Both halves of a codec."""

    encode: Half
    decode: Half


@dataclass(frozen=True)
class Media:
    """What is coded.

    Attributes:
        device: Where.
        frames: Frames of the video, 1 + 4k.
        size: Pixels of its height and width.
        seconds: Of the sound.
    """

    device: str
    frames: int = 25
    size: int = 64
    seconds: float = 1.0

    def video(self) -> Tensor:
        """``(1, 3, F, H, W)``."""
        return torch.rand(1, 3, self.frames, self.size, self.size, device=self.device) * 2 - 1

    def latents(self) -> Tensor:
        """Latents of the video, ``(1, C, T, H, W)``."""
        cells = self.size // SPACE_STRIDE
        steps = clock.latent_steps(self.frames, TIME_STRIDE)
        return torch.randn(1, LATENT_CHANNELS, steps, cells, cells, device=self.device)

    def sound(self, sample_rate: int, channels: int = 1) -> Tensor:
        """``(1, A, S)``."""
        samples = round(self.seconds * sample_rate)
        return torch.rand(1, channels, samples, device=self.device) - 0.5


def bench(setup: Setup, media: Media | None = None) -> Result:
    """Frames per second of the video codecs, and how many times faster than real time the audio codecs are."""
    size = SIZES[torch.device(setup.device).type]
    media = media or Media(setup.device, size=size)
    audio = {
        "avgen as EnCodec 24 kHz": _encodec_twin,
        "encodec 24 kHz": _encodec,
        "avgen project codec 16 kHz": _project_audio,
        "diffusers LTX-2 audio": _ltx2_audio,
    }
    video = {
        "avgen VideoVAE": _project_video,
        "diffusers Wan": _wan,
        "diffusers LTX-2": _ltx2_video,
    }
    measurements = setup.measure(
        [
            comparison
            for added, way in setup.ways().items()
            for what, builders, unit, work in (
                ("video", video, "frames/s", media.frames),
                ("sound", audio, "x real time", media.seconds),
            )
            for comparison in _comparisons(what, added, builders, media, way, unit, work)
        ]
    )
    settings = {
        "frames": media.frames,
        "size": media.size,
        "sound_seconds": media.seconds,
        "batch": 1,
        "dtype": "float32",
    }
    return Result(measurements, settings)


def _comparisons(
    what: str,
    added: str,
    builders: Mapping[str, Callable[[Media], Codec]],
    media: Media,
    setup: Setup,
    unit: str,
    work: float,
) -> list[Comparison]:
    return [
        Comparison(
            f"{what} {half}{added}",
            {
                name: partial(_prepare, build, half, media, setup)
                for name, build in builders.items()
            },
            unit,
            work,
        )
        for half in Codec._fields
    ]


def _prepare(build: Callable[[Media], Codec], half: str, media: Media, setup: Setup) -> Prepared:
    with torch.no_grad():
        run, modules = getattr(build(media), half)
    setup.compile(modules)
    return Prepared(torch.inference_mode()(run), count_parameters(modules))


def _ready(model: nn.Module, media: Media) -> Any:
    return model.eval().to(media.device)


def _project_video(media: Media) -> Codec:
    vae: VideoVAE = _ready(VideoVAE(), media)
    frames, latents = media.video(), media.latents()
    return Codec(
        Half(lambda: vae.encode(frames), (vae.encoder,)),
        Half(lambda: vae.decode(latents), (vae.decoder,)),
    )


def _wan(media: Media) -> Codec:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    vae = _ready(AutoencoderKLWan(base_dim=10, decoder_base_dim=12), media)
    frames, latents = media.video(), media.latents()
    return Codec(
        Half(lambda: vae.encode(frames), (vae.encoder, vae.quant_conv)),
        Half(lambda: vae.decode(latents), (vae.decoder, vae.post_quant_conv)),
    )


def _ltx2_video(media: Media) -> Codec:
    from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video

    vae = _ready(
        AutoencoderKLLTX2Video(
            latent_channels=LATENT_CHANNELS,
            block_out_channels=(32, 64),
            down_block_types=("LTX2VideoDownBlock3D",) * 2,
            decoder_block_out_channels=(32, 64),
            layers_per_block=(2, 1, 2),
            decoder_layers_per_block=(2, 2, 1),
            spatio_temporal_scaling=(True, True),
            decoder_spatio_temporal_scaling=(True, True),
            decoder_inject_noise=(False,) * 3,
            downsample_type=("temporal", "spatiotemporal"),
            upsample_type=("spatiotemporal", "temporal"),
            upsample_residual=(True, True),
            upsample_factor=(2, 2),
            spatial_compression_ratio=SPACE_STRIDE,
            temporal_compression_ratio=TIME_STRIDE,
        ),
        media,
    )
    frames, latents = media.video(), media.latents()
    return Codec(
        Half(lambda: vae.encode(frames), (vae.encoder,)),
        Half(lambda: vae.decode(latents), (vae.decoder,)),
    )


def _encodec_twin(media: Media) -> Codec:
    """The network of EnCodec at 24 kHz and 6 kbit/s; a test holds it to the package's."""
    return _own_audio(
        SeanetAudioCodec(
            sample_rate=24_000,
            latent_channels=128,
            num_codebooks=8,
            codebook_size=1024,
            num_filters=32,
            strides=(2, 4, 5, 8),
            patch=1,
            companding=0.0,
            num_lstm_layers=2,
            pad_mode="reflect",
            true_skip=False,
        ),
        media,
    )


def _project_audio(media: Media) -> Codec:
    return _own_audio(SeanetAudioCodec(), media)


def _own_audio(model: AudioCodec, media: Media) -> Codec:
    codec = _ready(model, media)
    waveform = media.sound(codec.sample_rate)
    codes = codec.encode_codes(waveform)
    return Codec(
        Half(lambda: codec.encode_codes(waveform), (codec.encoder,)),
        Half(lambda: codec.decode(codec.latents_from_codes(codes)), (codec.decoder,)),
    )


def _encodec(media: Media) -> Codec:
    codec = _ready(build_encodec("encodec_24khz"), media)
    codec.set_target_bandwidth(6.0)
    waveform = media.sound(codec.sample_rate)
    codes = codec.encode(waveform)
    return Codec(
        Half(lambda: codec.encode(waveform), (codec.encoder,)),
        Half(lambda: codec.decode(codes), (codec.decoder,)),
    )


def _ltx2_audio(media: Media) -> Codec:
    """Waveform to log-mel to latents and back: stereo, 16 kHz in and 24 kHz out."""
    from diffusers.models.autoencoders.autoencoder_kl_ltx2_audio import AutoencoderKLLTX2Audio
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
    from torchaudio.transforms import MelSpectrogram

    mel = _ready(MelSpectrogram(16_000, n_fft=1024, hop_length=160, n_mels=64), media)
    coder = _ready(AutoencoderKLLTX2Audio(base_channels=75), media)
    decoder = _ready(AutoencoderKLLTX2Audio(base_channels=48), media)
    vocoder = _ready(LTX2Vocoder(hidden_channels=224), media)
    waveform = media.sound(16_000, channels=2)

    def encode() -> Tensor:
        spectrogram = mel(waveform).clamp_min(1e-5).log()
        return coder.encode(spectrogram.transpose(2, 3)).latent_dist.mode()

    latents = encode()
    return Codec(
        Half(encode, (coder.encoder,)),
        Half(lambda: vocoder(decoder.decode(latents).sample), (decoder.decoder, vocoder)),
    )
