import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avgen.ops.rope import Rotation, frequencies, interval_gain, interval_rotation, rotate, rotation

OMEGA = frequencies(8, 30.0, 0.15)


def one(value: float) -> torch.Tensor:
    return torch.full((1, 1), value)


def test_frequencies_are_geometric_between_the_limits():
    omega = frequencies(5, 30.0, 0.3)
    assert omega[0] == pytest.approx(30.0, rel=1e-4)
    assert omega[-1] == pytest.approx(0.3, rel=1e-4)
    ratios = omega[1:] / omega[:-1]
    assert torch.allclose(ratios, ratios[:1].expand(4), rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(shift=st.floats(-5, 5), a=st.floats(0, 10), b=st.floats(0, 10))
def test_only_time_differences_matter(shift, a, b):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=generator)
    here = rotate(q, rotation(one(a), OMEGA)) * rotate(k, rotation(one(b), OMEGA))
    there = rotate(q, rotation(one(a + shift), OMEGA)) * rotate(k, rotation(one(b + shift), OMEGA))
    assert here.sum().item() == pytest.approx(there.sum().item(), abs=2e-3)


@settings(max_examples=20, deadline=None)
@given(start=st.floats(0, 3), length=st.floats(0.01, 3), time=st.floats(0, 4))
def test_interval_rotation_is_the_mean_over_the_interval(start, length, time):
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=generator, dtype=torch.float64).float()
    query = rotate(q, rotation(one(time), OMEGA))
    moments = start + length * (torch.arange(4000) + 0.5) / 4000
    keys = rotate(k.expand(1, 4000, 1, 16), rotation(moments[None], OMEGA))
    mean = (query * keys).sum(-1).mean().item()
    turned = interval_rotation(one(start), one(start + length), OMEGA)
    norm = interval_gain(one(length / 2), OMEGA).square().mean().sqrt()
    exact = (query * rotate(k, Rotation(*(part * norm for part in turned)))).sum().item()
    assert exact == pytest.approx(mean, abs=2e-3)


def test_a_point_interval_is_a_plain_rotation():
    point, plain = interval_rotation(one(1.3), one(1.3), OMEGA), rotation(one(1.3), OMEGA)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(point, plain, strict=True))


def test_rotation_keeps_lengths():
    x = torch.randn(2, 5, 3, 16, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, rotation(torch.rand(2, 5), OMEGA))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)


def test_a_rotation_and_its_gradient_are_those_of_complex_numbers():
    generator = torch.Generator().manual_seed(2)
    heads = torch.randn(2, 3, 4, 16, generator=generator, dtype=torch.float64, requires_grad=True)
    start, length = torch.rand(2, 2, 3, generator=generator)
    by = interval_rotation(start, start + length, OMEGA)  # it scales as well
    factor = torch.complex(*(x.double() for x in by))[:, :, None]

    def plain(x: torch.Tensor) -> torch.Tensor:
        turned = torch.complex(*x.chunk(2, dim=-1)) * factor
        return torch.cat((turned.real, turned.imag), dim=-1)

    assert torch.allclose(rotate(heads, by), plain(heads))
    weight = torch.randn(heads.shape, generator=generator, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((f * weight).sum(), heads)[0] for f in (rotate(heads, by), plain(heads))
    )
    assert torch.allclose(found, expected)
