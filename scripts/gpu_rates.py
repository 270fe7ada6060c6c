"""Rates of a CUDA device that bound a fused kernel product, measured by Triton programs that never leave registers."""

# mypy: allow-untyped-defs
# (annotations of a Triton program would be taken for types)

import torch
import triton
import triton.language as tl

PROGRAMS, TILE, ROUNDS = 4096, 4096, 2048


@triton.jit
def multiply_add(out, rounds, TILE: tl.constexpr):
    x = tl.arange(0, TILE).to(tl.float32) * 1e-6
    for _ in range(rounds):
        x = x * 0.999 + 1e-3
    tl.store(out + tl.program_id(0), tl.sum(x, 0))


@triton.jit
def exponential(out, rounds, TILE: tl.constexpr):
    x = tl.arange(0, TILE).to(tl.float32) * 1e-6
    for _ in range(rounds):
        x = tl.exp2(-x)
    tl.store(out + tl.program_id(0), tl.sum(x, 0))


def rates(timed) -> tuple[float, float]:
    """Multiply-adds and exponentials a second in float32; ``timed`` maps a function to its seconds."""
    out = torch.zeros(PROGRAMS, device="cuda")
    work = PROGRAMS * TILE * ROUNDS
    programs = (multiply_add, exponential)
    fma, exp = (work / timed(lambda p=p: p[(PROGRAMS,)](out, ROUNDS, TILE=TILE)) for p in programs)
    return fma, exp
