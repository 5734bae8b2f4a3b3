import pytest
import torch

from avgen.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_orthogonalised_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_solves_a_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(6, 4, generator=generator)
    weight = torch.nn.Parameter(torch.zeros(6, 4))
    bias = torch.nn.Parameter(torch.ones(6))
    optimizer = Muon([weight], [bias], lr=0.2)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.2 * (1 - step / 200)
        inputs = torch.randn(64, 4, generator=generator)
        loss = (inputs @ (weight - target).T + bias).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-2


def test_stacked_matrices_are_orthogonalised_one_by_one() -> None:
    stack = torch.randn(3, 24, 10, generator=torch.Generator().manual_seed(0))
    for matrix, together in zip(stack, orthogonalised(stack), strict=True):
        torch.testing.assert_close(orthogonalised(matrix), together, atol=0.02, rtol=0.02)


def test_matches_the_muon_of_pytorch() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(24, 10), (10, 24), (16, 16), (24, 10)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(w.clone()) for w in start] for _ in range(2))
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}
    mine = Muon(ours, [], **settings)
    peer = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", nesterov=True, **settings)
    for _ in range(10):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        mine.step()
        peer.step()
    for a, b, before in zip(ours, theirs, start, strict=True):
        moved = (b - before).abs().mean()
        assert (a - b).abs().mean() < 0.02 * moved
