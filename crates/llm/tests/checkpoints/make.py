"""Makes the PyTorch checkpoints of this folder, and what torch reads from them as safetensors.

  odd.bin              every kind of number, a scalar, an empty tensor, a transposed one, views of one storage, a parameter
  odd.safetensors      the same tensors as torch has them
  tiny.1.bin, tiny.2.bin
                       the weights of fixtures/families/stablelm_12b in two shards
  system.bin           a state dict that asks for a command to be run when it is loaded
  old.bin              saved in the format before PyTorch 1.6

Run: python make.py. Made with torch 2.15.0.
"""

import os
import pathlib
from collections import OrderedDict

import safetensors.torch
import torch

HERE = pathlib.Path(__file__).resolve().parent


class Command:
    def __reduce__(self):
        return os.system, ("touch /tmp/billion_ran_a_pickle",)


def main():
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    odd = torch.nn.Module().state_dict()  # an OrderedDict with _metadata, as models have
    odd.update(
        f32=base, f16=torch.randn(3).half(), bf16=torch.randn(2, 2).bfloat16(), f64=torch.randn(2).double(),
        i64=torch.tensor([-1, 2**40]), i32=torch.tensor([-7], dtype=torch.int32), i16=torch.tensor([300], dtype=torch.int16),
        i8=torch.tensor([-8, 8], dtype=torch.int8), u8=torch.tensor([0, 255], dtype=torch.uint8),
        bool=torch.ones(3, 3, dtype=torch.bool).tril().reshape(1, 1, 3, 3), scalar=torch.tensor(-1e9), empty=torch.zeros(0, 5),
        transposed=base.t(), rows=base[1:3], column=base[:, 2], every_other=base[::2, 1::2],
        parameter=torch.nn.Parameter(torch.randn(2, 3)),
    )
    odd["naïve \"name\""] = torch.zeros(1)
    odd["large"] = torch.arange(300, dtype=torch.int16).reshape(5, 60).t()
    torch.save(odd, HERE / "odd.bin")
    safetensors.torch.save_file({name: t.detach().clone().contiguous() for name, t in odd.items()}, HERE / "odd.safetensors")

    tiny = safetensors.torch.load_file(HERE.parent / "fixtures/families/stablelm_12b/model.safetensors")
    names = sorted(tiny)
    for number, part in ((1, names[:20]), (2, names[20:])):
        torch.save(OrderedDict((name, tiny[name]) for name in part), HERE / f"tiny.{number}.bin")

    torch.save(OrderedDict(a=torch.zeros(2), b=Command()), HERE / "system.bin")
    torch.save(OrderedDict(a=torch.zeros(2)), HERE / "old.bin", _use_new_zipfile_serialization=False)


main()
