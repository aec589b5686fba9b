# SPDX-License-Identifier: Apache-2.0
"""What every training here shares: gradients averaged over processes, the learning rate's course, logs, saved states.

Plain data parallelism over single-threaded processes: on a CPU with few cores that is faster than threads within each
operation. Where torchrun has started several processes, on one node or more, these are the group instead.

Every process draws the whole batch, with the same seed, and computes its own rows of it: the losses are those of the batch, however
many share it, up to rounding.
"""

import csv
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vla_sd_ros.inputs import BadInput
from vla_sd_ros.policy.weights import load_plain
from vla_sd_ros.whole_files import whole

LOG_EVERY = 50  # steps, of which a row of a log has the means
PATIENCE = timedelta(hours=6)  # for the first process, which measures and writes while the others wait


def check_processes(processes: int, batch_size: int) -> None:
    """Raises BadInput when there are more processes than images of a batch to share among them."""
    if processes > batch_size:
        raise BadInput(
            f"--processes is {processes}, but a batch of {batch_size} images cannot be shared by more than {batch_size}: lower "
            "it, or raise --batch-size"
        )


def launched() -> bool:
    """Whether torchrun has started this process as one of several."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def join_launched(device: str) -> str:
    """Enter the group of torchrun, where it has started this process; returns the device of this process."""
    if not launched():
        return device
    own = f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" else device
    if not distributed.is_initialized():
        if own.startswith("cuda"):
            torch.cuda.set_device(own)  # else NCCL has to guess it at the first barrier
        distributed.init_process_group("nccl" if own.startswith("cuda") else "gloo", timeout=PATIENCE)
    return own


def share() -> tuple[int, int]:
    """Number of this process and of all, as far as they share work between them."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def on_this_host() -> int:
    """How many processes of the group share the memory of this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if launched() else share()[1]


def own_rows(count: int) -> slice:
    """Which rows of a batch of all processes this one computes."""
    rank, world = share()
    return slice(count * rank // world, count * (rank + 1) // world)


def barrier() -> None:
    """Wait for the others of the group."""
    if distributed.is_initialized():
        distributed.barrier()


def spawn(train, arguments: tuple, processes: int) -> None:
    """Run train(rank, *arguments) in that many processes of one group, which end with this one.

    In the processes that torchrun has started: in each of these.
    """
    if distributed.is_initialized():
        train(distributed.get_rank(), *arguments)
        distributed.barrier()
        return
    if processes == 1:
        train(0, *arguments)
        return
    multiprocessing.spawn(_join, (train, arguments, processes, _free_port()), nprocs=processes, daemon=True)


def _join(rank: int, train, arguments: tuple, processes: int, port: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # torch sends it when the parent has ended; a job in the background ignores it
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", PATIENCE, world_size=processes, rank=rank)
    train(rank, *arguments)
    distributed.barrier()
    distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def multiplies_bf16() -> bool:
    """Whether this CPU multiplies bf16 natively, which is 1.5 times as fast."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


@contextmanager
def quick_passes(device: str = "cpu") -> Iterator[None]:
    """Forward passes in bf16 where the device multiplies it, on a CPU with attention as plain products: the gradient of the
    fused one takes several times as long there."""
    if device != "cpu":
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            yield
        return
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # on the CPU too; else the products are in full precision
    with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()), sdpa_kernel(SDPBackend.MATH):
        yield


def learning_rate(peak: float, step: int, total: int, since: int, warm_up: int) -> float:
    """Linear warm-up over the steps since a stage began, times one cosine over all, down to 2 % of the peak."""
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / total))
    return peak * min(1.0, (since + 1) / warm_up) * cosine


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum of the gradients over all processes, as one message; clipped to norm 1."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    if distributed.is_initialized():
        distributed.all_reduce(flat)
    flat *= (1.0 / (flat.norm() + 1e-6)).clamp(max=1.0)
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(part.view_as(gradient))


def of_the_batch(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Losses of the whole batch, from those of each process's rows as parts of it."""
    values = torch.stack([value.detach().float() for value in losses.values()])
    if distributed.is_initialized():
        distributed.all_reduce(values)
    return dict(zip(losses, values.tolist()))


def save_state(path: Path, state: dict) -> None:
    """Write a state such that an interruption leaves the one before. Raises BadInput where there is no room."""
    write_whole(path, lambda part: torch.save(state, part))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file, and give it its name when it is whole. Raises BadInput where there is no room."""
    try:
        with whole(path) as part:
            write(part)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadInput(
            f"{path} cannot be written ({' '.join(str(error).split())}): make room, and give the same command again; "
            "it goes on where it was"
        ) from error


def load_state(path: Path, device: torch.device | str = "cpu") -> dict | None:
    """What save_state wrote; None where there is nothing. Raises BadInput for anything else."""
    if not path.exists():
        return None
    try:
        return load_plain(path, device)
    except ValueError as error:
        raise BadInput(f"the state of the training in {path} cannot be read ({error}); remove it to begin anew") from error


class Log:
    """Means of the losses every LOG_EVERY steps, on the terminal and in a CSV file with these columns."""

    def __init__(self, path: Path, columns: tuple[str, ...]):
        self._file, self._columns = path.open("a", newline=""), columns
        self._writer = csv.writer(self._file)
        self._sums: dict[str, float] = {}
        self._count, self._since = 0, time.monotonic()

    def add(self, step: int, total: int, losses: dict[str, float], batch_size: int) -> None:
        """Take the losses of one step; now and again write and print their means."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if step % LOG_EVERY and step != total:
            return
        rate = self._count * batch_size / (time.monotonic() - self._since)
        means = {name: value / self._count for name, value in self._sums.items()}
        print(f"step {step}/{total} " + " ".join(f"{n} {v:.3f}" for n, v in means.items()) + f" {rate:.0f} samples/s", flush=True)
        self._writer.writerow([step, rate, *(means.get(name, "") for name in self._columns)])
        self._file.flush()
        self._sums, self._count, self._since = {}, 0, time.monotonic()
