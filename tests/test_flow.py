import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avgen import flow


@settings(deadline=None)
@given(sigma=st.floats(0.01, 1.0))
def test_round_trips(sigma):
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 50, generator=generator, dtype=torch.float64)
    level = torch.tensor(sigma, dtype=torch.float64)
    noisy, velocity = flow.add_noise(clean, noise, level), flow.velocity(clean, noise)
    assert torch.allclose(flow.denoised(noisy, velocity, level), clean, atol=1e-9)
    assert torch.allclose(flow.noise(noisy, velocity, level), noise, atol=1e-9)


def test_the_ends_are_clean_and_noise():
    clean, noise = torch.ones(3), torch.full((3,), 5.0)
    assert torch.equal(flow.add_noise(clean, noise, torch.tensor(0.0)), clean)
    assert torch.equal(flow.add_noise(clean, noise, torch.tensor(1.0)), noise)


def test_velocity_is_the_derivative_by_sigma():
    clean, noise = torch.tensor(2.0, dtype=torch.float64), torch.tensor(-1.0, dtype=torch.float64)
    sigma = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    flow.add_noise(clean, noise, sigma).backward()
    assert sigma.grad is not None
    assert sigma.grad.item() == pytest.approx(flow.velocity(clean, noise).item())


@settings(deadline=None)
@given(shift=st.floats(0.2, 10.0))
def test_shift_keeps_the_ends_and_the_order(shift):
    sigma = torch.linspace(0, 1, 21, dtype=torch.float64)
    moved = flow.shift_sigma(sigma, shift)
    assert moved[0] == 0
    assert moved[-1] == pytest.approx(1.0)
    assert bool((moved.diff() > 0).all())
    further = moved - sigma if shift >= 1 else sigma - moved
    assert bool((further >= -1e-12).all())


def test_more_tokens_shift_more():
    assert flow.shift_for_tokens(400, 400, 2.0) == 2.0
    assert flow.shift_for_tokens(1600, 400, 2.0) == 4.0
