"""Linear layers with few parameters: blocks in a butterfly pattern plus a low-rank term."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["BlockButterflyLinear", "butterfly_partners", "with_butterfly_layers"]

_ROUNDS = 10  # rounds of the alternating projection; more change the error of a trained 512 x 512 layer by < 1 %


def butterfly_partners(n_blocks: int, n_factors: int) -> Tensor:
    """Indices of each block and of the blocks connected to it, with shape (n_blocks, n_factors + 1).

    Partner i of block j is j xor 2^i, the i-th factor of a butterfly, if the number of blocks is a power of two, and
    (j + 2^i) mod n_blocks otherwise.

    Raises:
        ValueError: If there are more factors than distinct partners.
    """
    most = math.ceil(math.log2(n_blocks))
    if not 0 <= n_factors <= most:
        msg = f"n_factors must be in 0..{most} for {n_blocks} blocks, got {n_factors}"
        raise ValueError(msg)
    block = torch.arange(n_blocks)
    if n_blocks & (n_blocks - 1) == 0:
        partners = [block ^ (1 << i) for i in range(n_factors)]
    else:
        partners = [(block + (1 << i)) % n_blocks for i in range(n_factors)]
    return torch.stack([block, *partners], 1)


class BlockButterflyLinear(nn.Module):
    """The layer y = (B + U V') x + b, where B is zero except for blocks in a flat butterfly pattern.

    A flat block butterfly is the first-order part of a product of butterfly factors. Its blocks are dense, so the layer
    is one batched product of small matrices. With nb blocks along a side, a fraction (n_factors + 1) / nb of B is
    nonzero. Widths that are not multiples of the block size are padded with zeros internally. If the layer is not
    square, the pattern of the shorter side is stretched along the longer one.

    Initial weights are drawn so that entries of W x have the variance of ``nn.Linear``'s default, half from B and half
    from U V'. A forward pass of n rows costs O(n (out block_size (n_factors + 1) + rank (in + out))) multiplications.

    Args:
        in_features: Columns of W.
        out_features: Rows of W.
        block_size: Side of a block; 32 or more for fast matrix products.
        n_factors: Partners of each block; at most the logarithm of the number of blocks of the shorter side.
        rank: Columns of U and V; 0 for none.
        bias: Whether the layer has a bias b.
        device: Device of the parameters.
        dtype: Dtype of the parameters.
        generator: Generator of the initial values, on ``device``; by default torch's global one.

    Raises:
        ValueError: If a size is out of range.

    References:
        Dao, Chen, Liang, Yang, Song, Rudra & Re (2022), https://arxiv.org/abs/2112.00029. The paper has W = gamma B +
        (1 - gamma) U V' with a learned gamma; here B, U and V absorb it.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        block_size: int = 32,
        n_factors: int = 3,
        rank: int = 16,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if min(in_features, out_features, block_size) < 1 or rank < 0:
            msg = "in_features, out_features and block_size must be at least 1 and rank at least 0, "
            msg += f"got {in_features}, {out_features}, {block_size} and {rank}"
            raise ValueError(msg)
        self.in_features, self.out_features = in_features, out_features
        self.block_size, self.n_factors, self.rank = block_size, n_factors, rank
        self._blocks_in, self._blocks_out = -(-in_features // block_size), -(-out_features // block_size)
        self._partners = self._pattern().flatten().tolist()  # no buffer: copies on the meta device keep it
        longer, width = max(self._blocks_in, self._blocks_out), (n_factors + 1) * block_size
        like = {"device": device, "dtype": dtype}
        shape = (longer, block_size, width) if self._gathers else (longer, width, block_size)
        self.blocks = nn.Parameter(torch.empty(shape, **like))  # type: ignore[arg-type]
        self.left = nn.Parameter(torch.empty(out_features, rank, **like)) if rank else None  # type: ignore[arg-type]
        self.right = nn.Parameter(torch.empty(in_features, rank, **like)) if rank else None  # type: ignore[arg-type]
        self.bias = nn.Parameter(torch.empty(out_features, **like)) if bias else None  # type: ignore[arg-type]
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None, *, scale: float | None = None) -> None:
        """Draws new initial values.

        Args:
            generator: On the device of the parameters.
            scale: Standard deviation of an equivalent dense matrix's entries; by default sqrt(1 / (3 in_features)), as
                in ``nn.Linear``. Biases are set to 0.
        """
        for value, sd in zip(self.parameters(), self.parameter_scales(scale), strict=True):
            value.normal_(generator=generator).mul_(sd)
        if self.bias is not None:
            self.bias.zero_()

    def parameter_scales(self, scale: float | None = None) -> tuple[float, ...]:
        """Standard deviations of initial values, in the order of ``parameters``; that of the bias is ``scale``."""
        scale = math.sqrt(1.0 / (3.0 * self.in_features)) if scale is None else scale
        share = 0.5 if self.rank else 1.0
        # Average number of entries of B in an output's sum; in a dense layer it would be in_features.
        entries = self.blocks.numel() / (self._blocks_out * self.block_size)
        blocks = scale * math.sqrt(share * self.in_features / entries)
        factors = (math.sqrt(scale * math.sqrt(share / self.rank)),) * 2 if self.rank else ()
        return (blocks, *factors, *((scale,) if self.bias is not None else ()))

    def forward(self, x: Tensor) -> Tensor:
        """W x + b, with shape (..., out_features), for inputs with shape (..., in_features)."""
        rows = x.reshape(-1, self.in_features)
        y = self._sparse(rows)
        if self.left is not None and self.right is not None:
            y = y + rows @ self.right @ self.left.T
        if self.bias is not None:
            y = y + self.bias
        return y.reshape(*x.shape[:-1], self.out_features)

    def to_dense(self) -> Tensor:
        """W as a dense matrix, with shape (out_features, in_features)."""
        size = self.block_size
        square = self.blocks.new_zeros(self._blocks_out, self._blocks_in, size, size)
        square = square.index_put(self._places(), self._apart(self.blocks).flatten(0, 1))
        dense = square.transpose(1, 2).reshape(self._blocks_out * size, self._blocks_in * size)
        dense = dense[: self.out_features, : self.in_features]
        return dense if self.left is None or self.right is None else dense + self.left @ self.right.T

    def mask(self) -> Tensor:
        """Mask of the entries of B that may be nonzero, with shape (out_features, in_features)."""
        grid = torch.zeros(self._blocks_out, self._blocks_in, dtype=torch.bool)
        rows, columns = (place.cpu() for place in self._places())
        grid[rows, columns] = True
        full = grid.repeat_interleave(self.block_size, 0).repeat_interleave(self.block_size, 1)
        return full[: self.out_features, : self.in_features]

    @classmethod
    def like(cls, layer: nn.Linear, *, block_size: int, n_factors: int, rank: int) -> BlockButterflyLinear:
        """A newly initialised layer with the sizes, bias, dtype and device of a dense layer."""
        return cls(
            layer.in_features,
            layer.out_features,
            block_size=block_size,
            n_factors=n_factors,
            rank=rank,
            bias=layer.bias is not None,
            device=layer.weight.device,
            dtype=layer.weight.dtype,
        )

    @classmethod
    def of(cls, layer: nn.Linear, *, block_size: int = 32, n_factors: int = 3, rank: int = 16) -> BlockButterflyLinear:
        """An approximation of a dense layer in the Frobenius norm, with the same bias.

        Alternates between the best B given U V' and the best U V' given B; no round raises the error. Exact if W has
        this form with rank 0. O(rounds min(in, out)^2 max(in, out)) time.
        """
        weight = layer.weight.detach()
        new = cls.like(layer, block_size=block_size, n_factors=n_factors, rank=rank)
        new._take(weight)
        if layer.bias is not None and new.bias is not None:
            new.bias.data.copy_(layer.bias.detach())
        return new

    def extra_repr(self) -> str:
        """The sizes, for torch's printed form."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, block_size={self.block_size}"
        return f"{sizes}, n_factors={self.n_factors}, rank={self.rank}, bias={self.bias is not None}"

    @property
    def _gathers(self) -> bool:
        """Whether blocks of outputs gather blocks of inputs; otherwise blocks of inputs scatter."""
        return self._blocks_out >= self._blocks_in

    def _pattern(self) -> Tensor:
        """Blocks of the shorter side connected to each block of the longer side, with shape (longer, factors + 1)."""
        shorter, longer = sorted((self._blocks_in, self._blocks_out))
        return butterfly_partners(shorter, self.n_factors)[torch.arange(longer) * shorter // longer]

    def _sparse(self, rows: Tensor) -> Tensor:
        """B x, computed as one batched matrix product."""
        n, size = len(rows), self.block_size
        padded = nn.functional.pad(rows, (0, self._blocks_in * size - self.in_features))
        given = padded.T.contiguous().view(self._blocks_in, size, n)
        partners = torch.tensor(self._partners, device=rows.device)
        if self._gathers:
            gathered = given.index_select(0, partners).view(self._blocks_out, -1, n)
            y = torch.bmm(self.blocks, gathered)
        else:
            parts = torch.bmm(self.blocks, given).view(-1, size, n)
            y = parts.new_zeros(self._blocks_out, size, n).index_add(0, partners, parts)
        return y.reshape(self._blocks_out * size, n)[: self.out_features].T

    def _places(self) -> tuple[Tensor, Tensor]:
        """Block rows and block columns of the blocks that ``_apart`` lists."""
        shorter = torch.tensor(self._partners, device=self.blocks.device)
        longer = torch.arange(len(self.blocks), device=self.blocks.device).repeat_interleave(self.n_factors + 1)
        return (longer, shorter) if self._gathers else (shorter, longer)

    def _apart(self, blocks: Tensor) -> Tensor:
        """The blocks as a tensor with shape (longer, factors + 1, size, size)."""
        count, size = self.n_factors + 1, self.block_size
        if self._gathers:
            return blocks.view(len(blocks), size, count, size).transpose(1, 2)
        return blocks.view(len(blocks), count, size, size)

    def _together(self, apart: Tensor) -> Tensor:
        """Inverse of ``_apart``."""
        return (apart.transpose(1, 2) if self._gathers else apart).reshape(self.blocks.shape)

    @torch.no_grad()
    def _take(self, weight: Tensor) -> None:
        mask, low = self.mask().to(weight.device), torch.zeros_like(weight)
        for _ in range(_ROUNDS if self.rank else 1):
            sparse = torch.where(mask, weight - low, 0.0)
            if self.left is None or self.right is None:
                break
            u, s, vh = torch.linalg.svd(weight - sparse, full_matrices=False)
            root = s[: self.rank].sqrt()
            used = len(root)
            self.left.zero_()
            self.right.zero_()
            self.left[:, :used] = u[:, :used] * root
            self.right[:, :used] = vh[:used].T * root
            low = self.left @ self.right.T
        sparse = torch.where(mask, weight - low, 0.0)
        size = self.block_size
        padding = (0, self._blocks_in * size - self.in_features, 0, self._blocks_out * size - self.out_features)
        padded = nn.functional.pad(sparse, padding)
        grid = padded.view(self._blocks_out, size, self._blocks_in, size).transpose(1, 2)
        self.blocks.copy_(self._together(grid[self._places()].view(len(self.blocks), -1, size, size)))


def with_butterfly_layers(
    model: nn.Module,
    *,
    block_size: int = 32,
    n_factors: int = 3,
    rank: int = 16,
    start: Literal["near", "random"] = "near",
    generator: torch.Generator | None = None,
) -> nn.Module:
    """A copy of a network with butterfly layers as hidden layers; the first and last layer stay dense.

    Layers that would not become smaller are not replaced.

    Args:
        model: Any module; its ``nn.Linear`` layers count in the order of ``model.modules()``.
        block_size: See ``BlockButterflyLinear``.
        n_factors: See ``BlockButterflyLinear``, at most what each layer allows.
        rank: See ``BlockButterflyLinear``.
        start: "near" approximates the weights of the replaced layers, for a trained network whose training will
            continue; "random" draws new weights of the same size.
        generator: For "random", on the model's device.

    Raises:
        ValueError: If no layer would become smaller.
    """
    changed = copy.deepcopy(model)
    names = [name for name, module in changed.named_modules() if isinstance(module, nn.Linear)][1:-1]
    replaced = 0
    for name in names:
        layer = changed.get_submodule(name)
        if not isinstance(layer, nn.Linear):
            continue
        shorter = -(-min(layer.in_features, layer.out_features) // block_size)
        factors = min(n_factors, math.ceil(math.log2(shorter)))
        new = _replacement(layer, start, generator, block_size=block_size, n_factors=factors, rank=rank)
        if sum(p.numel() for p in new.parameters()) < sum(p.numel() for p in layer.parameters()):
            changed.set_submodule(name, new)
            replaced += 1
    if not replaced:
        msg = f"none of the {len(names)} hidden linear layers would become smaller with blocks of {block_size}, "
        msg += f"{n_factors} factors and rank {rank}"
        raise ValueError(msg)
    return changed


def _replacement(
    layer: nn.Linear, start: str, generator: torch.Generator | None, *, block_size: int, n_factors: int, rank: int
) -> BlockButterflyLinear:
    if start == "near":
        return BlockButterflyLinear.of(layer, block_size=block_size, n_factors=n_factors, rank=rank)
    if start != "random":
        msg = f"start must be 'near' or 'random', got {start!r}"
        raise ValueError(msg)
    weight = layer.weight.detach()
    new = BlockButterflyLinear.like(layer, block_size=block_size, n_factors=n_factors, rank=rank)
    new.reset_parameters(generator, scale=float(weight.square().mean().sqrt()))
    return new
