"""Measure how fast all GPUs of all machines add up one GiB: `torchrun $TORCHRUN nccl_check.py`."""

import os
import time

import torch
import torch.distributed as dist

GIB, TIMES = 2**30, 20


def main() -> None:
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl")
    gpus = dist.get_world_size()
    data = torch.ones(GIB // 4, device="cuda")
    dist.all_reduce(data)
    if not torch.all(data == gpus):
        raise SystemExit(f"The sum of {gpus} ones is wrong: {data[0].item()}")
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(TIMES):
        dist.all_reduce(data)
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / TIMES
    if dist.get_rank() == 0:
        # As NCCL's own tests count: what each GPU sends and receives.
        speed = 2 * (gpus - 1) / gpus * GIB / seconds / 1e9
        print(f"{gpus} GPUs: {seconds * 1000:.1f} ms, {speed:.0f} GB/s of bus bandwidth")
    dist.destroy_process_group()


main()
