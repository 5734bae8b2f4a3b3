"""Tensors that are spread over processes (DTensors of one kind of placement), and those that are not, alike."""

from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate


def local(tensor: Tensor) -> Tensor:
    """What this process holds, sharing memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(part: Tensor, like: Tensor) -> Tensor:
    """The whole of which every process holds a ``part``, as it does of ``like``."""
    if not isinstance(like, DTensor):
        return part
    mesh, shape, stride = like.device_mesh, like.shape, like.stride()
    spread = DTensor.from_local(
        part, mesh, like.placements, run_check=False, shape=shape, stride=stride
    )
    return spread.full_tensor()


def scattered(whole: Tensor, like: Tensor) -> Tensor:
    """The part of a tensor, which every process holds whole, that this one holds of ``like``."""
    if not isinstance(like, DTensor):
        return whole
    mesh = like.device_mesh
    everywhere = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=like.placements).to_local()
