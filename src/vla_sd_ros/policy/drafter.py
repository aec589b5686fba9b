# SPDX-License-Identifier: Apache-2.0
"""The drafter: one Llama layer that predicts the verifier's next hidden states, and the tree of tokens that it drafts.

Spec-VLA (Wang et al., 2025, arXiv 2507.22424) on the grounds of EAGLE-2 (Li et al., 2024, arXiv 2406.16858). Each input
joins the embedding of a token, a visual one too, with the verifier's last hidden state one position before it; the output
stands for the hidden state at that token, which the verifier's own output layer turns into the next token.

    drafter = load_drafter(checkpoint, vla)
    drafter.start(prompt.embeddings, out.prompt)       # out: of the prefill; for each new observation
    draft = drafter.propose(root, room)                # root: the token that the verifier has decided last
    drafter.follow(bins, hidden)                       # the root and what else the verifier has kept below it
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from vla_sd_ros.checkpoint_places import is_path
from vla_sd_ros.inputs import expanded
from vla_sd_ros.policy import checkpoint, engine
from vla_sd_ros.policy.config import TextConfig, VlaConfig
from vla_sd_ros.policy.draft import EMPTY, Draft
from vla_sd_ros.policy.model import llama_config
from vla_sd_ros.policy.vla import ACTION_TOKENS, MAX_DRAFT_NODES, MAX_PROMPT_TOKENS, Prefill, Prompt, Vla
from vla_sd_ros.policy.weights import load_plain

FILE = "drafter.safetensors"  # in a checkpoint's directory
RELEASED_FILE = "pytorch_model.bin"  # in that of a released drafter
MAX_TOP_K = 64


@dataclass(frozen=True)
class Budget:
    """Size of a tree.

    nodes: of the verifier's pass, the root among them. depth: drafted tokens below the root on the longest path. top_k:
    children of a node, and nodes of a level that get children.

    The defaults are Spec-VLA's; its code counts the passes after the first one and calls these five levels a depth of 4.
    Raises ValueError for a size that cannot be.
    """

    nodes: int = 50
    depth: int = 5
    top_k: int = 8

    def __post_init__(self) -> None:
        for name, low, high in (("nodes", 1, MAX_DRAFT_NODES), ("depth", 1, ACTION_TOKENS - 1), ("top_k", 1, MAX_TOP_K)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"a draft tree's {name} must be a whole number from {low} to {high}, not {value!r}")


class DrafterModel(nn.Module):
    """The weights, by the names that released drafters have: fc.*, layers.0.*."""

    def __init__(self, text: TextConfig):
        super().__init__()
        self.config = replace(text, num_hidden_layers=1)
        llama = llama_config(self.config)
        self.fc = nn.Linear(2 * text.hidden_size, text.hidden_size)
        layer = LlamaDecoderLayer(llama, 0)
        layer.register_module("input_layernorm", nn.Identity())  # EAGLE's first layer has none
        self.layers = nn.ModuleList([layer])
        self.rotary = LlamaRotaryEmbedding(llama)

    def forward(self, embeddings: Tensor, hidden: Tensor) -> Tensor:
        """Embeddings of tokens (B, n, h) and the hidden states one position before them (B, n, h) to what the hidden
        states at these tokens may be (B, n, h): all positions at once, for training."""
        x = self.fc(torch.cat((embeddings, hidden), dim=-1))
        positions = torch.arange(x.shape[1], device=x.device)[None]
        return self.layers[0](x, position_embeddings=self.rotary(x, positions))


class Verifier(Protocol):
    """What a drafter needs of its policy, or of the ends of one (training/answers.py)."""

    @property
    def config(self) -> VlaConfig:
        """Sizes of the policy's parts."""

    @property
    def lm_head(self) -> Tensor:
        """(256, h): of the action tokens, in the order of the bins."""

    @property
    def action_embeddings(self) -> Tensor:
        """(256, h): of the same tokens."""

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""


class Drafter:
    """Drafts for one verifier, whose committed tokens its own KV cache follows. Not thread safe."""

    def __init__(self, model: DrafterModel, vla: Verifier):
        """The model becomes the drafter's: moved to the verifier's device and precision, and frozen."""
        self._vla, self._dtype = vla, vla.lm_head.dtype
        model = model.to(vla.device, self._dtype).eval().requires_grad_(False)
        self._fc = model.fc
        config = model.config
        self._decoder = engine.Decoder((engine.join(model.layers[0]),), None, config.num_attention_heads, config.rms_norm_eps)
        capacity = vla.config.vision.tokens + MAX_PROMPT_TOKENS + ACTION_TOKENS * (1 + MAX_TOP_K)
        self._cache = engine.KvCache(config, capacity, vla.device, self._dtype)
        self._length = 0  # slots of the cache whose tokens are certain
        self._root: int | None = None  # a token that is in the cache already, but that follow() has not told yet
        self._nothing = vla.action_embeddings[:0]
        # what the cache lacks: embeddings of known tokens, and the hidden states before each of them and before the next one
        self._embeddings = self._hidden = self._nothing

    @torch.inference_mode()
    def start(self, embeddings: Tensor, hidden: Tensor) -> None:
        """Begin with a prompt's embeddings (n, h) and the verifier's hidden states (n, h); propose() reads both."""
        self._length, self._root = 0, None
        self._embeddings, self._hidden = embeddings[1:], hidden  # no hidden state comes before the first token

    @torch.inference_mode()
    def follow(self, bins: np.ndarray, hidden: Tensor) -> None:
        """The next tokens (n,) that the verifier has committed, and its hidden states there (n, h).

        Raises ValueError when they do not begin with the root of the latest draft.
        """
        bins = np.asarray(bins, dtype=np.int64)
        if self._root is not None and len(bins):
            if bins[0] != self._root:
                raise ValueError(f"the verifier went on with bin {bins[0]}, but the draft hangs below bin {self._root}")
            bins, self._root = bins[1:], None
        fresh = self._vla.action_embeddings[torch.from_numpy(bins).to(self._vla.device)]
        self._embeddings = torch.cat((self._embeddings, fresh))
        self._hidden = torch.cat((self._hidden, hidden))

    @torch.inference_mode()
    def propose(self, root: int, room: int, budget: Budget = Budget()) -> Draft:
        """The tree below a token that is certain; room: tokens that are worth drafting, whatever the budget's depth.

        Nodes come in the order of their probability, so that a shorter beginning of the draft is the tree of a smaller
        budget. Raises ValueError when follow() has not told yet what became of the latest draft.
        """
        if self._root is not None:
            raise ValueError("the drafter must follow what the verifier made of its latest draft before the next one")
        depth = min(budget.depth, room)
        if depth < 1 or budget.nodes < 2:
            return EMPTY
        return self._tree(self._catch_up(root), depth, budget)

    def session(self, nodes: int, depth: int, top_k: int, tokens: int) -> "Session":
        """For the decoding of one action, of which `tokens` tokens at most are worth drafting. Raises as Budget does."""
        return Session(self, Budget(nodes, depth, top_k), tokens)

    def _catch_up(self, root: int) -> Tensor:
        """Append to the cache what it lacks, and the root; returns the predicted hidden state (1, h) at the root."""
        embeddings = torch.cat((self._embeddings, self._vla.action_embeddings[root : root + 1]))
        states = self._pass(embeddings, self._hidden, self._length)
        self._length += len(embeddings)
        self._embeddings = self._hidden = self._nothing
        self._root = root
        return states[-1:]

    def _tree(self, hidden: Tensor, depth: int, budget: Budget) -> Draft:
        """Level by level, the children of its top_k most probable nodes; then the most probable of all. One host read."""
        device, width = hidden.device, budget.top_k
        frontier = torch.tensor([-1], device=device)  # nodes that get children, the root first
        reached = torch.zeros(1, 1, device=device)  # log probability of each of them
        ancestry = torch.ones(1, 0, dtype=torch.bool, device=device)  # which nodes of earlier frontiers each of them sees
        bins, parents, scores = [], [], []
        for level in range(depth):
            log_probabilities = F.log_softmax((hidden @ self._vla.lm_head.T).float(), dim=-1)
            best, best_bins = _first(log_probabilities, width)
            bins.append(best_bins.flatten())
            parents.append(frontier.repeat_interleave(width))
            scores.append((reached + best).flatten())
            if level == depth - 1:
                break
            score, chosen = _first(scores[-1], width)
            frontier, reached = chosen + sum(map(len, bins[:-1])), score[:, None]
            before = chosen // width  # their parents, as rows of the frontier before
            ancestry = torch.cat((ancestry[before], torch.eye(width, dtype=torch.bool, device=device)), dim=1)
            mask = F.pad(ancestry, (self._length, 0), value=True)
            positions = torch.full((width,), self._length + level, device=device)
            embeddings = self._vla.action_embeddings[bins[-1][chosen]]
            hidden = self._pass(embeddings, hidden[before], self._length + level * width, positions, mask)
        order = _first(torch.cat(scores), budget.nodes - 1)[1]
        rank = torch.full((sum(map(len, scores)) + 1,), -1, device=device)  # the last entry is that of the root, -1
        rank[order] = torch.arange(len(order), device=device)
        chosen_bins, chosen_parents = torch.stack((torch.cat(bins)[order], rank[torch.cat(parents)[order]])).cpu().numpy()
        return Draft(chosen_bins, chosen_parents)

    def _pass(
        self, embeddings: Tensor, hidden: Tensor, start: int, positions: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        x = self._fc(torch.cat((embeddings, hidden), dim=-1))
        return engine.forward(self._decoder, self._cache, x, start, positions, mask)


class Session:
    """A drafter's part in decoding one action, as decoders ask it of every source of drafts."""

    def __init__(self, drafter: Drafter, budget: Budget, tokens: int):
        self._drafter, self._budget, self._tokens = drafter, budget, tokens

    def start(self, prompt: Prompt, out: Prefill) -> None:
        """The prefill has run, over the prompt alone."""
        self._drafter.start(prompt.embeddings, out.prompt)

    def propose(self, tokens: list[int]) -> Draft:
        """What may follow the tokens so far; nothing before the first one, which is the verifier's."""
        return self._drafter.propose(tokens[-1], self._tokens - len(tokens), self._budget) if tokens else EMPTY

    def follow(self, bins: np.ndarray, hidden: Tensor) -> None:
        """A pass has committed these tokens (n,), with the verifier's last hidden states (n, h) at them."""
        self._drafter.follow(bins, hidden)


def _first(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The greatest values along the last dimension and their indices; of equal ones the earlier, which topk() leaves open.

    A node is never more probable than its parent and comes after it, so the best nodes of a tree are one themselves.
    """
    values, indices = x.sort(dim=-1, descending=True, stable=True)
    return values[..., :count], indices[..., :count]


def comes_with(source: str | Path) -> bool:
    """Whether a checkpoint, a directory or a shipped one's name, has a drafter of its own."""
    return checkpoint.part_of(source, FILE) is not None


def load_drafter(source: str | Path, vla: Vla) -> Drafter:
    """The drafter of a checkpoint: a directory or a shipped checkpoint's name; also a released drafter's directory, or file.

    Raises CheckpointError when there is none or it does not fit the verifier.
    """
    path = _locate(source)
    weights = _read(path)
    weights.pop("embed_tokens.weight", None)  # released drafters repeat the verifier's
    model = DrafterModel(vla.config.text)
    checkpoint.load_weights(model, weights, f"drafter {path}")
    return Drafter(model, vla)


def _locate(source: str | Path) -> Path:
    if is_path(source) and expanded(source).is_file():
        return expanded(source)
    directory = checkpoint.find(source)
    for name in (FILE, RELEASED_FILE):
        if (directory / name).is_file():
            return directory / name
    raise checkpoint.CheckpointError(
        f"checkpoint {source} has no drafter ({FILE}): train one with vla-sd train-drafter --checkpoint {source}"
    )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = load_plain(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise checkpoint.CheckpointError(f"drafter {path} cannot be read: {error}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise checkpoint.CheckpointError(f"drafter {path} holds no plain weights: give the released {RELEASED_FILE}")
    return weights
