import pytest
import torch

from avgen.ops.attention import Packed, attend, resolve_backend


def heads(*lengths: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, n, 3, 16, generator=generator) for n in lengths]


@pytest.mark.parametrize("backend", ["sdpa", "plain"])
def test_backends_equal_the_written_out_formula(backend):
    q, k, v = heads(5, 7, 7)
    weights = torch.einsum("bmhk,bnhk->bhmn", q, k).div(4.0).softmax(-1)
    expected = torch.einsum("bhmn,bnhk->bmhk", weights, v)
    assert torch.allclose(attend(q, k, v, backend=backend), expected, atol=1e-5)


@pytest.mark.parametrize("backend", ["sdpa", "plain", "auto"])
def test_masked_keys_do_not_matter(backend):
    q, k, v = heads(5, 7, 7)
    mask = torch.arange(7)[None] < torch.tensor([4, 7])[:, None]
    read = attend(q, k, v, mask, backend=backend)
    other = torch.where(mask[:, :, None, None], k, torch.full_like(k, 3.0))
    assert torch.equal(read[0], attend(q, other, v, mask, backend=backend)[0])
    assert torch.allclose(read[:1], attend(q[:1], k[:1, :4], v[:1, :4], backend=backend), atol=1e-5)


@pytest.mark.parametrize("backend", ["sdpa", "plain"])
def test_packed_equals_each_sequence_alone(backend):
    q, k, v = (x[:1] for x in heads(9, 11, 11))
    lengths = Packed((4, 5), (8, 3))
    read = attend(q, k, v, lengths, backend=backend)
    first = attend(q[:, :4], k[:, :8], v[:, :8], backend=backend)
    second = attend(q[:, 4:], k[:, 8:], v[:, 8:], backend=backend)
    assert torch.allclose(read, torch.cat([first, second], dim=1), atol=1e-5)


def test_backward_of_plain_equals_sdpa():
    grads = []
    for backend in ("sdpa", "plain"):
        q, k, v = (x.requires_grad_() for x in heads(6, 8, 8))
        attend(q, k, v, backend=backend).square().sum().backward()
        grads.append([x.grad for x in (q, k, v)])
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(("dtype", "name"), [(torch.float32, "sdpa"), (torch.bfloat16, "plain")])
def test_auto_takes_the_faster_way_of_a_type_on_the_cpu(dtype, name):
    q, k, v = (x.to(dtype) for x in heads(6, 8, 8))
    assert torch.equal(attend(q, k, v), attend(q, k, v, backend=name))


def test_backend_that_cannot_run_says_why():
    with pytest.raises(ValueError, match="no operator for the CPU"):
        resolve_backend("xformers", "cpu")
    with pytest.raises(ValueError, match="unknown; use one of"):
        resolve_backend("flash", "cpu")
    assert resolve_backend("auto", "cpu")[0] == "sdpa"


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_xformers_equals_sdpa_on_cuda(dtype, tolerance):
    q, k, v = (x[:1].to("cuda", dtype) for x in heads(9, 11, 11))
    for mask in (None, Packed((4, 5), (8, 3))):
        ours = attend(q, k, v, mask, backend="xformers").float()
        assert torch.allclose(ours, attend(q, k, v, mask, backend="sdpa").float(), atol=tolerance)
