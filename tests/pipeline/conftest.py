import pytest
import torch

from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.video_vae import VideoVAE
from avgen.model.bundle import Network
from avgen.model.config import ModelConfig, StreamConfig
from avgen.pipeline import AVPipeline


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> str:
    """A folder of small untrained weights in the real format."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights")
    video, audio = VideoVAE(latent_channels=4), SeanetAudioCodec(latent_channels=8, num_filters=4)
    audio.quantiser.initialise(torch.randn(2048, 8), torch.Generator().manual_seed(0))
    audio.calibrate([torch.randn(2, 1, 6400)])
    video.save(path / "video_vae.safetensors")
    audio.save(path / "audio_codec.safetensors")
    streams = {
        "video": StreamConfig(channels=4, width=32, num_heads=2, patch=2, spatial=True),
        "audio": StreamConfig(channels=8, width=32, num_heads=2),
    }
    config = ModelConfig(streams=streams, depth=1, head_dim=16, text_width=32)
    network = Network(
        config, {"num_heads": 2}, codecs={"video": video.identity, "audio": audio.identity}
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    network.save(path / "model.safetensors")
    return str(path)


@pytest.fixture(scope="session")
def pipe(folder) -> AVPipeline:
    return AVPipeline.from_pretrained(folder)
