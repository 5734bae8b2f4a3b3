"""The loop from noise to latents.

It may run under autograd, can be stopped between steps, and knows nothing of codecs or files.
Letters: B clips, N tokens, A numbers per token, Q codebooks, V codebook entries.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from avgen.model.layout import Layout, per_token_sigma
from avgen.sampling.guidance import Guidance, GuiderName
from avgen.sampling.schedules import linear_schedule
from avgen.sampling.solvers import Noise, SolverName, solver
from avgen.text.base import TextTokens

OFF = Guidance()
NOT_GIVEN: Mapping[str, "Given"] = {}


class Given(NamedTuple):
    """What is given of a stream: clean tokens ``(B, N, A)`` and where they hold, ``(N,)``."""

    tokens: Tensor
    mask: Tensor


class Progress(NamedTuple):
    """State after a step: number of steps done and in all, and the tokens of every stream."""

    step: int
    num_steps: int
    tokens: dict[str, Tensor]


@dataclass(frozen=True)
class Sampler:
    """How latents are sampled.

    Attributes:
        steps: Steps from noise to clean.
        solver: ``euler``, ``heun`` (second order, twice the evaluations), or with noise drawn anew in each step:
            ``ancestral``, ``renoise``. See `avgen.sampling.solvers`.
        guidance: Guiders.
    """

    steps: int = 16
    solver: SolverName = "euler"
    guidance: Guidance = field(default_factory=Guidance)

    def to_dict(self) -> dict[str, Any]:
        """How clips were sampled, as JSON has it."""
        guidance = self.guidance.to_dict()
        return {"steps": self.steps, "solver": self.solver, "guidance": guidance}

    def run(
        self,
        model: Any,
        layout: Layout,
        text: TextTokens,
        empty: TextTokens,
        generators: Sequence[torch.Generator],
        given: Mapping[str, Given] = NOT_GIVEN,
    ) -> Iterator[Progress]:
        """Yield the state after every step; the last one is clean.

        Args:
            model: ``model(streams, text, exchange)`` as `avgen.model.dual_stream.DualStreamTransformer`. If it has
                ``text_keys``, it is given what they return in place of the text, computed once.
            layout: Of all clips.
            text: Encoded captions, B rows.
            empty: The encoded caption without text, one row.
            generators: One per clip, so that a clip does not depend on its batch.
            given: Given tokens by stream.
        """
        device = text.states.device
        noise = partial(_noise, generators)
        state = {name: _start(layout, name, noise, len(text.mask), device) for name in layout.grids}
        state = {name: _impose(x, given.get(name)) for name, x in state.items()}
        sigmas = linear_schedule(self.steps, layout.shift).to(device)
        guided = _Conditions.of(model, self.guidance, layout, text, empty)
        plain = _Conditions.of(model, OFF, layout, text, empty) if self.guidance.above else guided
        advance = solver(self.solver)
        codes = {name: x for name, x in state.items() if layout.config.streams[name].codebooks}
        latents = {name: x for name, x in state.items() if name not in codes}
        for step, (sigma, following) in enumerate(pairwise(sigmas)):
            conditions = guided if sigma >= self.guidance.above else plain
            velocity = _Velocity(conditions, model, codes, given)
            latents = advance(velocity, latents, sigma, following, noise) if latents else {}
            latents = {name: _impose(x, given.get(name)) for name, x in latents.items()}
            if not latents:
                velocity({}, sigma)
            codes = {
                name: unmask(
                    x, velocity.logits[name], float(following), generators, given.get(name)
                )
                for name, x in codes.items()
            }
            yield Progress(step + 1, self.steps, {**latents, **codes})

    def sample(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The clean tokens of every stream; arguments as for `run`."""
        *_, last = self.run(*args, **kwargs)
        return last.tokens


class _Velocity:
    """Velocity of the latents at fixed codes; remembers the logits of the codes from its first evaluation."""

    def __init__(
        self,
        conditions: "_Conditions",
        model: Any,
        codes: Mapping[str, Tensor],
        given: Mapping[str, Given],
    ) -> None:
        self.conditions, self.model, self.codes, self.given = conditions, model, codes, given
        self.logits: dict[str, Tensor] = {}

    def __call__(self, latents: Mapping[str, Tensor], sigma: Tensor) -> dict[str, Tensor]:
        out = self.conditions.predict(self.model, {**latents, **self.codes}, sigma, self.given)
        for name in self.codes:
            self.logits.setdefault(name, out[name])
        return {name: _still(out[name], self.given.get(name)) for name in latents}


@dataclass(frozen=True)
class _Conditions:
    """The full condition and the weaker ones of the active guiders, evaluated in one batch."""

    guidance: Guidance
    layout: Layout
    clips: int
    text: Any

    @classmethod
    def of(
        cls, model: Any, guidance: Guidance, layout: Layout, text: TextTokens, empty: TextTokens
    ) -> "_Conditions":
        """Conditions with the text of all copies as the model reads it."""
        variants = {"time": text.untimed(layout.duration), "partner": text}
        parts = [text]
        for name in guidance.active(layout.grids):
            parts.append(_widen(empty, text) if name == "text" else variants[name])
        copies = TextTokens(
            torch.cat([p.states for p in parts]),
            torch.cat([p.interval for p in parts]),
            torch.cat([p.mask for p in parts]),
        )
        text_keys = getattr(model, "text_keys", None)
        return cls(guidance, layout, len(text.mask), text_keys(copies) if text_keys else copies)

    def predict(
        self, model: Any, state: Mapping[str, Tensor], sigma: Tensor, given: Mapping[str, Given]
    ) -> dict[str, Tensor]:
        active = self.guidance.active(self.layout.grids)
        copies = 1 + len(active)
        level = sigma.expand(self.clips * copies)
        streams = {
            name: self.layout.input(
                name, x.repeat(copies, *(1,) * (x.ndim - 1)), self._sigma(name, level, given)
            )
            for name, x in state.items()
        }
        exchange = torch.ones(copies, self.clips, device=level.device)
        for i, name in enumerate(active):
            exchange[1 + i] = float(name != "partner")
        out = model(streams, self.text, exchange.flatten() if len(state) > 1 else None)
        return {name: self._combine(name, x, active) for name, x in out.items()}

    def _sigma(self, name: str, level: Tensor, given: Mapping[str, Given]) -> Tensor:
        return per_token_sigma(level, given[name].mask) if name in given else level[:, None]

    def _combine(self, stream: str, prediction: Tensor, active: list[GuiderName]) -> Tensor:
        full, *weaker = prediction.float().chunk(1 + len(active))
        return self.guidance.combine(stream, full, dict(zip(active, weaker, strict=True)))


def unmask(
    codes: Tensor,
    logits: Tensor,
    sigma: float,
    generators: Sequence[torch.Generator],
    given: Given | None,
) -> Tensor:
    """Keep the codes the network is surest of, until only a share ``sigma`` of a clip's codes is masked.

    Codes ``(B, N, Q)`` (masked ones hold V) and logits ``(B, N, Q, V)``. Confidence is disturbed by Gumbel noise that
    fades with sigma (Chang et al. 2022, arXiv 2202.04200).
    """
    size = logits.shape[-1]
    free = (codes == size) if given is None else (codes == size) & ~given.mask[None, :, None]
    total = codes[0].numel() if given is None else int((~given.mask).sum()) * codes.shape[2]
    keep_masked = int(total * sigma)
    rows = []
    for row, generator in enumerate(generators):
        drawn, score = _draw(logits[row], sigma, generator)
        score = score.masked_fill(~free[row], torch.inf).flatten()
        order = score.argsort()
        masked = torch.zeros_like(score, dtype=torch.bool)
        masked[order[: min(keep_masked, int(free[row].sum()))]] = True
        filled = torch.where(free[row], drawn, codes[row])
        rows.append(torch.where(masked.view(filled.shape), torch.full_like(filled, size), filled))
    return torch.stack(rows)


def _draw(logits: Tensor, sigma: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A code from each distribution, and how sure it is."""
    uniform = (
        torch.rand((2, *logits.shape), generator=generator).to(logits.device).clamp(1e-9, 1 - 1e-9)
    )
    gumbel = -(-uniform.log()).log()
    drawn = (logits + gumbel[0]).argmax(-1)
    sure = logits.log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
    return drawn, sure + sigma * gumbel[1, ..., 0]


def _start(layout: Layout, name: str, noise: Noise, clips: int, device: torch.device) -> Tensor:
    """A stream before the first step: noise, or all codes masked."""
    stream, count = layout.config.streams[name], len(layout.grids[name])
    if stream.codebooks:
        shape = (clips, count, stream.codebooks)
        return torch.full(shape, stream.codebook_size, device=device)
    return noise(torch.empty(clips, count, stream.channels * stream.patch**2, device=device))


def _noise(generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Standard normal noise of a shape ``(B, ...)``, each clip's from its own generator."""
    shape = like.shape[1:]
    return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(like)


def _impose(tokens: Tensor, given: Given | None) -> Tensor:
    return (
        tokens
        if given is None
        else torch.where(given.mask[None, :, None], given.tokens.to(tokens), tokens)
    )


def _still(velocity: Tensor, given: Given | None) -> Tensor:
    """Given tokens do not move."""
    return velocity if given is None else velocity.masked_fill(given.mask[None, :, None], 0.0)


def _widen(empty: TextTokens, like: TextTokens) -> TextTokens:
    """The empty caption for every row, padded to the same number of tokens."""
    rows, count = like.mask.shape
    states, interval, mask = (torch.zeros_like(x) for x in (like.states, like.interval, like.mask))
    used = empty.mask.shape[1]
    assert used <= count
    states[:, :used] = empty.states.expand(rows, -1, -1)
    interval[:, :used] = empty.interval.expand(rows, -1, -1)
    mask[:, :used] = empty.mask.expand(rows, -1)
    return TextTokens(states, interval, mask)
