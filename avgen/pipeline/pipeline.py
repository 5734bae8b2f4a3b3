"""AVPipeline: captions in, clips out."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avgen import clock
from avgen.caption import Event, TimedCaption
from avgen.checkpoint import AUDIO_FILE, MODEL_FILE, VIDEO_FILE, CheckpointError, find_weights
from avgen.clip import Clip
from avgen.codecs.audio_codec import SeanetAudioCodec
from avgen.codecs.base import AudioCodec, VideoCodec
from avgen.codecs.video_vae import VideoVAE
from avgen.model.bundle import Network
from avgen.model.layout import Layout
from avgen.ops.attention import Backend
from avgen.ops.precision import computes_bfloat16
from avgen.pipeline.canvas import Canvas, lay_out, pixels, put_back, to_frames
from avgen.pipeline.request import DEFAULT_DURATION, Request, as_request
from avgen.pipeline.rollout import roll_out
from avgen.sampling.guidance import Guidance
from avgen.sampling.sampler import Given, Sampler
from avgen.sampling.solvers import SolverName

ProgressCallback = Callable[[int, int], None]
GUIDANCE = Guidance(text=3.0, above=0.92)
"""By the text alone and only while a clip takes shape, in the first steps: see ``docs/ablations.md``."""
SOLVER: SolverName = "renoise"
"""What moves stays whole more often, and two seeds differ less: see ``docs/ablations.md``."""


class AVPipeline(nn.Module):
    """Text encoder, transformer and codecs as one callable.

    Args:
        network: Transformer and text encoder.
        video_codec: Codec whose latents the network was trained on.
        audio_codec: Likewise for sound.

    Raises:
        CheckpointError: A codec is not the one that the network was trained with.
    """

    def __init__(self, network: Network, video_codec: VideoCodec, audio_codec: AudioCodec) -> None:
        super().__init__()
        for name, codec in (("video", video_codec), ("audio", audio_codec)):
            expected = network.codecs.get(name)
            if expected is not None and expected != codec.identity:
                raise CheckpointError(
                    f"the network was trained on {name} latents of codec {expected[:12]}, but the one given "
                    f"is {codec.identity[:12]}; use the codec file that came with the network"
                )
        self.network, self.video_codec, self.audio_codec = network, video_codec, audio_codec
        self.eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "tiny",
        *,
        device: str | torch.device = "cpu",
        backend: Backend = "auto",
    ) -> "AVPipeline":
        """Load weights that ship with avgen by name, a folder, or a Hugging Face hub id (``owner/name``).

        Raises:
            CheckpointError: Files are missing or cannot be used.
        """
        folder = find_weights(name)
        network = Network.from_file(folder / MODEL_FILE, backend=backend)
        video = VideoVAE.from_file(folder / VIDEO_FILE)
        audio = SeanetAudioCodec.from_file(folder / AUDIO_FILE)
        return cls(network, video, audio).to(device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the three files that `from_pretrained` reads."""
        folder = Path(folder)
        self.network.save(folder / MODEL_FILE)
        self.video_codec.save(folder / VIDEO_FILE)  # type: ignore[operator]
        self.audio_codec.save(folder / AUDIO_FILE)  # type: ignore[operator]

    def __call__(
        self,
        prompt: str | TimedCaption,
        *,
        events: Sequence[Event] = (),
        duration: float | None = None,
        image: np.ndarray | None = None,
        video: Clip | None = None,
        audio: Clip | None = None,
        prefix: Clip | None = None,
        infill: Clip | None = None,
        span: tuple[float, float] | None = None,
        seed: int = 0,
        steps: int = 16,
        guidance: Guidance | float | None = None,
        solver: SolverName = SOLVER,
        keep_given: bool = True,
        progress: ProgressCallback | None = None,
    ) -> Clip:
        """Make one clip.

        Args:
            prompt: Description of the whole clip, or a caption with events.
            events: What happens when.
            duration: Seconds, snapped to 1 + 4k frames.
            image: First frame, ``(H, W, 3)`` uint8.
            video: Clip that gets a new sound.
            audio: Clip whose sound gets a picture.
            prefix: Clip that is continued; ``duration`` includes it.
            infill: Clip of which one span is made anew.
            span: Start and end of that span, in seconds.
            seed: Same seed, same clip, whatever else is in the batch.
            steps: Sampling steps.
            guidance: Guiders, or the scale of the text alone for all steps, 1 for none; `GUIDANCE` by default.
            solver: ``euler``, ``heun``, ``ancestral`` or ``renoise``; see `avgen.sampling.solvers`.
            keep_given: Whether what is given is in the clip as it was. Else it comes out of the codecs like the rest,
                so that the seam between the two shows less.
            progress: Called with steps done and steps in all; an exception raised in it stops the sampling.

        Raises:
            ValueError: A request that cannot be met, with what to change.
        """
        media = {"image": image, "video": video, "audio": audio, "prefix": prefix, "infill": infill}
        request = as_request(prompt, events, duration=duration, seed=seed, span=span, **media)
        return self.generate(
            [request],
            steps=steps,
            guidance=guidance,
            solver=solver,
            keep_given=keep_given,
            progress=progress,
        )[0]

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        *,
        steps: int = 16,
        guidance: Guidance | float | None = None,
        solver: SolverName = SOLVER,
        batch_size: int = 16,
        snap_audio: bool = False,
        keep_given: bool = True,
        progress: ProgressCallback | None = None,
    ) -> list[Clip]:
        """Make several clips; those of one shape and task run in batches. Order is kept.

        With ``snap_audio`` continuous audio latents are moved to the nearest codes of the codec before they are
        decoded; the other arguments are those of a call.
        """
        guiders = (
            Guidance(text=guidance) if isinstance(guidance, (int, float)) else guidance or GUIDANCE
        )
        sampler = Sampler(steps=steps, solver=solver, guidance=guiders)
        groups: dict[Any, list[int]] = defaultdict(list)
        for i, request in enumerate(requests):
            frames = request.num_frames(self.video_codec.time_stride)
            groups[frames, request.height, request.width, request.fps, str(request.task())].append(
                i
            )
        clips: dict[int, Clip] = {}
        for indices in groups.values():
            for start in range(0, len(indices), batch_size):
                chunk = indices[start : start + batch_size]
                made = self._generate_batch(
                    [requests[i] for i in chunk], sampler, snap_audio, keep_given, progress
                )
                clips.update(zip(chunk, made, strict=True))
        return [clips[i] for i in range(len(requests))]

    def roll_out(
        self,
        requests: Sequence[Request],
        *,
        window: float = DEFAULT_DURATION,
        history: float = 1.0,
        **options: Any,
    ) -> list[Clip]:
        """Make clips longer than the model was trained on, each window continuing the one before.

        See `avgen.pipeline.rollout.roll_out` for ``window`` and ``history``, in seconds.

        Args:
            requests: What to make, of any duration.
            window: Length of a window, at most what the model was trained on.
            history: How much of the window before each one is given.
            options: As for `generate`; ``progress`` is called for each window.

        Raises:
            ValueError: A request that cannot be met, with what to change.
        """
        return roll_out(
            lambda parts: self.generate(parts, **options),
            requests,
            window=window,
            history=history,
            time_stride=self.video_codec.time_stride,
        )

    def _generate_batch(
        self,
        requests: list[Request],
        sampler: Sampler,
        snap_audio: bool,
        keep_given: bool,
        progress: ProgressCallback | None,
    ) -> list[Clip]:
        layout = self.layout(requests[0])
        captions = [request.caption(layout.duration) for request in requests]
        canvases = [self._canvas(request, layout) for request in requests]
        given = self._given(requests[0], layout, canvases)
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        with self._precision():
            text = self.network.text_encoder(captions)
            empty = self.network.text_encoder([captions[0].replace(text="", events=())])
            tokens: dict[str, Tensor] = {}
            for state in sampler.run(self.network.model, layout, text, empty, generators, given):
                tokens = state.tokens
                if progress is not None:
                    progress(state.step, state.num_steps)
        media = self._decode(layout, tokens, snap_audio)
        clips = []
        for i, (request, caption) in enumerate(zip(requests, captions, strict=True)):
            clip = Clip(
                frames=to_frames(media["video"][i]),
                fps=request.fps,
                waveform=media["audio"][i].float().clamp(-1, 1).cpu().numpy(),
                sample_rate=self.audio_codec.sample_rate,
                caption=caption,
                request=request.to_dict() | sampler.to_dict(),
            )
            if keep_given:
                clip = put_back(clip, canvases[i], *self._given_masks(layout, given))
            clips.append(clip)
        return clips

    def layout(self, request: Request) -> Layout:
        """Layout of the clip that a request asks for.

        Raises:
            ValueError: A size that the codec cannot make.
        """
        codec = self.video_codec
        patch = self.network.config.streams["video"].patch
        unit = codec.space_stride * patch
        if request.height % unit or request.width % unit:
            raise ValueError(
                f"size {request.height}x{request.width} must be a multiple of {unit} pixels"
            )
        frames = request.num_frames(codec.time_stride)
        duration = clock.duration(frames, request.fps)
        rate = clock.as_rate(self.audio_codec.sample_rate) / self.audio_codec.hop
        steps = clock.latent_steps(frames, codec.time_stride)
        shapes = {
            "video": (
                steps,
                request.height // codec.space_stride,
                request.width // codec.space_stride,
            ),
            "audio": (clock.count(duration, rate),),
        }
        return Layout.of_shapes(
            self.network.config,
            shapes,
            fps=request.fps,
            time_stride=codec.time_stride,
            audio_rate=rate,
            duration=duration,
        )

    def _canvas(self, request: Request, layout: Layout) -> Canvas:
        return lay_out(
            request,
            clock.frames_from_latent_steps(
                layout.grids["video"].shape[0], self.video_codec.time_stride
            ),
            sample_rate=self.audio_codec.sample_rate,
            channels=self.audio_codec.audio_channels,
            num_samples=len(layout.grids["audio"]) * self.audio_codec.hop,
        )

    def _given(self, request: Request, layout: Layout, canvases: list[Canvas]) -> dict[str, Given]:
        masks, device = layout.given(request.task()), self.device
        given = {}
        if bool(masks["video"].any()):
            frames = torch.cat(
                [pixels(canvas.frames) for canvas in canvases if canvas.frames is not None]
            )
            latents = self.video_codec.encode(frames.to(device))
            given["video"] = Given(layout.tokens("video", latents), masks["video"].to(device))
        if bool(masks["audio"].any()):
            stacked = np.stack(
                [canvas.waveform for canvas in canvases if canvas.waveform is not None]
            )
            waveform = torch.from_numpy(stacked).to(device)
            discrete = self.network.config.streams["audio"].codebooks
            encode = self.audio_codec.encode_codes if discrete else self.audio_codec.encode
            given["audio"] = Given(
                layout.tokens("audio", encode(waveform)), masks["audio"].to(device)
            )
        return given

    def _given_masks(
        self, layout: Layout, given: dict[str, Given]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Frames and waveform samples that given tokens cover, bool."""
        steps = layout.grids["video"].shape[0]
        masks = {name: x.mask.cpu().numpy() for name, x in given.items()}
        video = masks.get("video", np.zeros(len(layout.grids["video"]), bool))
        audio = masks.get("audio", np.zeros(len(layout.grids["audio"]), bool))
        frames_per_step = np.full(steps, self.video_codec.time_stride)
        frames_per_step[0] = 1
        return (
            np.repeat(video.reshape(steps, -1)[:, 0], frames_per_step),
            np.repeat(audio, self.audio_codec.hop),
        )

    def _decode(
        self, layout: Layout, tokens: dict[str, Tensor], snap_audio: bool
    ) -> dict[str, Tensor]:
        audio = layout.latents("audio", tokens["audio"])
        discrete = self.network.config.streams["audio"].codebooks
        if snap_audio and not discrete:
            audio = self.audio_codec.codes_from_latents(audio)
        if snap_audio or discrete:
            audio = self.audio_codec.latents_from_codes(audio)
        return {
            "video": self.video_codec.decode(layout.latents("video", tokens["video"])),
            "audio": self.audio_codec.decode(audio),
        }

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def _precision(self) -> torch.autocast:
        enabled = computes_bfloat16(self.device)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)
