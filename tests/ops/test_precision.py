import pytest
import torch

from avgen.ops.precision import computes_bfloat16


def test_this_processor_says_so_where_it_lists_the_instructions():
    with open("/proc/cpuinfo") as file:  # noqa: PTH123
        flags = file.read()
    if "avx512f" not in flags:
        assert not computes_bfloat16("cpu")
    if "amx_bf16" in flags or "avx512_bf16" in flags:
        assert computes_bfloat16("cpu")


def test_unknown_devices_are_not_taken_to():
    assert computes_bfloat16("cuda")
    assert not computes_bfloat16("meta")
    with pytest.raises(RuntimeError):
        computes_bfloat16("abacus")
    assert isinstance(computes_bfloat16(torch.device("cpu")), bool)
