"""Pre-train, measure and export the packaged backbone `mini`: a small CLIP, from scratch, on procedural images.

    python scripts/pretrain_mini.py train RUN --steps 6000         # or stop early: `touch RUN/decay`
    python scripts/pretrain_mini.py train SECOND --stage objects --start FOLDER --seed 1 --steps 2500
    python scripts/pretrain_mini.py export RUN FOLDER              # as open_clip's local-dir: reads it
    python scripts/pretrain_mini.py measure FOLDER --split test    # beside random weights and a hand-crafted detector

The learning rate is constant after a warm-up; the last part of a run, `--decay-steps`, lowers it to zero. The decay
starts in time to end at `--steps`, or at once when a file RUN/decay appears: the step at which it began is logged and
reproduces the run by `--decay-at`. A run that was cut off goes on from its last checkpoint when started again. Every
batch is a function of (seed, step), so an interrupted run sees what an uninterrupted one would have seen.
"""

import argparse
import gzip
import json
import math
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cops_lightning.clip.image_encoder import ImageEncoder
from cops_lightning.core.files import digest
from cops_lightning.demo.catalog import CATEGORIES as PACKAGED
from cops_lightning.demo.catalog import categories, defects_of
from cops_lightning.demo.images import LIGHTING, VERSION, Example, Streams, example
from cops_lightning.metrics.ranking import ranking_scores
from cops_lightning.models.baselines.pixel_statistics import odd_places, odd_share
from pretraining.captions import ANOMALOUS, NORMAL, TEMPLATES, caption_pair, phrases
from pretraining.catalog import CATEGORIES, DEFECTS, OPEN_DEFECT
from pretraining.catalog import NAMED as NAMED_CATEGORIES
from pretraining.pairs import render_pair

IMAGE, PATCH = 112, 8
GRID = IMAGE // PATCH
TAU = 0.07  # CoPS's constant temperature
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
UNSAID = -1
POOLS = (1, 3, 5)  # windows over which CoPS averages patch features
WARM_UP, LOG_EVERY = 150, 25  # steps
VOCABULARY, CHECKPOINT, RECIPE = "bpe_vocabulary.txt.gz", "checkpoint.pt", "recipe.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
MERGES = 1500  # CLIP's most frequent merges are kept, and those that the captions need


@dataclass(frozen=True)
class Stage:
    """What a run sees and weighs. `open` and `named` are drawn from alike often, an entry of either with equal chance.

    `windows` are sides in patches that steps see in turn: those of the first steps, of the middle, and of the last
    steps. Small ones are cheap and show the most images; the whole grid is what is looked at in the end.
    """

    open: tuple[str, ...]
    named: tuple[str, ...]
    windows: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    first_steps: int
    last_steps: int
    weights: dict[str, float]

    def window(self, step: int, end: int) -> int:
        """The window of a step of a run that ends at `end`."""
        first, middle, last = self.windows
        turn = first if step < self.first_steps else last if step >= end - self.last_steps else middle
        return turn[step % len(turn)]


WEIGHTS = {"state": 1.0, "contrast": 0.3, "values": 1.0, "pooled": 0.5, "original": 0.4, "early": 0.4}
NAMED = {kind: tuple(c.name for c in NAMED_CATEGORIES if c.kind == kind) for kind in ("texture", "object", "medical")}
STAGES = {
    # From scratch: everything alike.
    "all": Stage(
        ("abstract texture", "abstract object"),
        (*NAMED["texture"], *NAMED["object"], *NAMED["medical"]),
        ((6, 6, 8), (6, 8, 10), (10, GRID)), 2100, 500, WEIGHTS,
    ),
    # Then what was learnt least: objects, most of them regular; whole images; the highest patches, which scores read.
    "objects": Stage(
        ("abstract texture", "abstract object", *["abstract component"] * 4),
        (*NAMED["texture"], *NAMED["object"] * 3, *NAMED["medical"] * 3),
        ((10, GRID), (10, GRID), (GRID,)), 0, 400, WEIGHTS | {"peak": 0.3},
    ),
}  # fmt: skip


# ---- vocabulary ------------------------------------------------------------------------------------------------------


def write_vocabulary(file: Path) -> None:
    """CLIP's merge list cut down to its first MERGES entries and what spells the captions in one piece per word.

    The stock tokenizer reads it; every other text still has a spelling, in smaller pieces.
    """
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    rank = {tuple(line.split()): i for i, line in enumerate(lines)}
    stock, words = SimpleTokenizer(), set()
    named = [text for c in CATEGORIES.values() for text in (c.name, *c.synonyms)]
    named += [text for d in DEFECTS.values() if not d.held_out for text in (d.name, *d.synonyms)]
    for text in (*phrases(), *named):
        words |= {"".join(stock.byte_encoder[b] for b in word.encode()) for word in stock.pat.findall(text.lower())}
    kept = set(range(MERGES))
    for word in sorted(words):
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            best = min(pairwise(pieces), key=lambda pair: rank.get(pair, math.inf))
            if best not in rank:
                break
            kept.add(rank[best])
            merged: list[str] = []
            for piece in pieces:
                if merged and (merged[-1], piece) == best:
                    merged[-1] += piece
                else:
                    merged.append(piece)
            pieces = merged
    text = "\n".join(["#version: 0.2", *(lines[i] for i in sorted(kept))])
    file.write_bytes(gzip.compress(text.encode(), mtime=0))


@cache
def spoken_pieces(file: str) -> tuple[str, ...]:
    """Pieces of the vocabulary that look like words or syllables and are no part of the package's categories' names."""
    others = {word for c in PACKAGED.values() for text in (c.name, *c.synonyms) for word in text.split()}
    pieces = (piece.removesuffix("</w>") for piece in SimpleTokenizer(bpe_path=file).encoder)
    return tuple(sorted({p for p in pieces if p.isascii() and p.isalpha() and p not in others}))


def architecture(vocabulary: int) -> dict:
    return {
        "embed_dim": 192,
        "quick_gelu": True,
        "vision_cfg": {"image_size": IMAGE, "patch_size": PATCH, "width": 192, "layers": 6, "head_width": 64},
        "text_cfg": {
            "context_length": 77, "vocab_size": vocabulary, "width": 192, "heads": 3, "layers": 4, "mlp_ratio": 2.0,
        },
    }  # fmt: skip


# ---- data ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rendered:
    """A batch of p pairs: images (2, p, s, s, 3) normal first, masks (p, s, s) of 0 .. 255, two captions per pair, and
    what is true of image and caption: columns category and defect, UNSAID where a caption does not say."""

    images: np.ndarray
    masks: np.ndarray
    captions: tuple[list[str], list[str]]
    truth: np.ndarray
    said: np.ndarray


def render(seed: int, step: int, pairs: int, vocabulary: str, stage: Stage) -> Rendered:
    """Batch number `step`. Half of the pairs come from the open grammar; a quarter of all defects do."""
    everything, defects = list(CATEGORIES), list(DEFECTS)
    images, masks = np.empty((2, pairs, IMAGE, IMAGE, 3), np.uint8), np.empty((pairs, IMAGE, IMAGE), np.uint8)
    good, bad = [], []
    truth, said = np.empty((pairs, 2), np.int64), np.full((pairs, 2), UNSAID, np.int64)
    for i in range(pairs):
        index = step * pairs + i
        rng = Streams.of(seed, "pretrain", index).scene
        open_ = stage.open[int(rng.integers(len(stage.open)))]
        category = CATEGORIES[open_ if rng.random() < 0.5 else stage.named[int(rng.integers(len(stage.named)))]]
        light = LIGHTING[("easy", "easy", "medium", "hard")[int(rng.integers(4))]]
        choices = (OPEN_DEFECT,) if rng.random() < 0.25 else defects_of(category)
        pair = render_pair(seed, category, index, choices, light)
        caption = caption_pair(rng, category, DEFECTS[pair.defect], spoken_pieces(vocabulary))
        for state, image in enumerate((pair.normal, pair.anomalous)):
            images[state, i] = cv2.resize(image, (IMAGE, IMAGE), interpolation=cv2.INTER_AREA)
        masks[i] = cv2.resize(pair.mask.astype(np.uint8) * 255, (IMAGE, IMAGE), interpolation=cv2.INTER_AREA)
        good.append(caption.normal)
        bad.append(caption.anomalous)
        truth[i] = everything.index(category.name), defects.index(pair.defect)
        if caption.named:
            said[i, 0] = truth[i, 0]
        if caption.defect:
            said[i, 1] = truth[i, 1]
    return Rendered(images, masks, (good, bad), truth, said)


class Batches:
    """Batches in order of steps, rendered ahead by other processes."""

    def __init__(self, seed: int, first: int, pairs: int, vocabulary: Path, stage: Stage, workers: int):
        self.pool = ProcessPoolExecutor(workers)
        self.args, self.next_step = (pairs, str(vocabulary), stage), first
        self.seed, self.waiting = seed, deque[Future]()
        for _ in range(3 * workers):
            self._order()

    def _order(self) -> None:
        self.waiting.append(self.pool.submit(render, self.seed, self.next_step, *self.args))
        self.next_step += 1

    def take(self) -> Rendered:
        self._order()
        return self.waiting.popleft().result()

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def tokenize(tokenizer: SimpleTokenizer, texts: list[str]) -> Tensor:
    """Token ids, padded with zeros to the longest text."""
    ids = [[tokenizer.sot_token_id, *tokenizer.encode(text)[:50], tokenizer.eot_token_id] for text in texts]
    out = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.long)
    for row, value in zip(out, ids, strict=True):
        row[: len(value)] = torch.tensor(value)
    return out


# ---- the paths that CoPS reads ---------------------------------------------------------------------------------------


@dataclass
class Views:
    """Joint-space features: `plain` is CLIP's own global feature, `image` the one CoPS reads (no ln_post)."""

    image: Tensor
    plain: Tensor
    values: Tensor
    original: Tensor
    early: Tensor


def heads(x: Tensor, n: int) -> Tensor:
    return x.view(x.shape[0], x.shape[1], n, -1).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention; on a CPU in bfloat16 written out, as the fused kernel takes twice as long there."""
    if q.dtype == torch.float32 or q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v)
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1).to(v.dtype) @ v


def look(clip: CLIP, pixels: Tensor, where: Tensor | None = None, early: int = 3) -> Views:
    """Both paths of the image tower over the patches `where` (all by default); `early` layers make the early values."""
    visual = clip.visual
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    position = visual.positional_embedding
    x = x + (position[1:] if where is None else position[1:][where])
    start = (visual.class_embedding + position[0]).expand(len(x), 1, -1).to(x.dtype)
    x = values = visual.ln_pre(torch.cat([start, x.to(start.dtype)], 1))
    halfway = values
    for depth, block in enumerate(visual.transformer.resblocks, 1):
        attn = block.attn
        qkv = F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = (heads(part, attn.num_heads) for part in qkv.chunk(3, -1))
        both = torch.cat([attend(q, k, v), attend(v, v, v)])
        moved, seen = attn.out_proj(both.transpose(1, 2).flatten(2)).chunk(2)
        values, x = values + seen, x + moved
        x = x + block.mlp(block.ln_2(x))
        if depth == early:
            halfway = values
    said = [visual.ln_post(t) @ visual.proj for t in (values[:, 1:], x, halfway[:, 1:])]
    return Views(x[:, 0] @ visual.proj, said[1][:, 0], said[0], said[1][:, 1:], said[2])


def speak(clip: CLIP, tokens: Tensor) -> Tensor:
    """Text features, unit norm."""
    length = tokens.shape[1]
    x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
    x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
    at_end = x[torch.arange(len(tokens), device=x.device), tokens.argmax(-1)]
    return F.normalize((at_end @ clip.text_projection).float(), dim=-1)


# ---- objective -------------------------------------------------------------------------------------------------------


def contrast(logits: Tensor, true: Tensor) -> Tensor:
    """InfoNCE with many positives: each true match against all false ones."""
    false = torch.logsumexp(logits.masked_fill(true, -1e4), 1, keepdim=True)
    count = true.sum(1)
    per_row = (F.softplus(false - logits) * true).sum(1) / count.clamp(min=1)
    return per_row[count > 0].mean()


def patch_logits(patches: Tensor, axis: Tensor) -> Tensor:
    """How anomalous each patch is, as a logit; `axis` is anomalous minus normal text, per image."""
    return torch.einsum("bpd,bd->bp", F.normalize(patches.float(), dim=-1), axis) / TAU


def dense(patches: Tensor, axis: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and dice of the patches' states."""
    logits = patch_logits(patches, axis)
    anomalous = logits.sigmoid()[len(target) // 2 :]
    marked = target[len(target) // 2 :]
    overlap = (2 * (anomalous * marked).sum(1) + 1) / (anomalous.sum(1) + marked.sum(1) + 1)
    return 2 * F.binary_cross_entropy_with_logits(logits, target) + 0.5 * (1 - overlap).mean()


def pooled(patches: Tensor, window: int) -> Tensor:
    """Average over neighbouring patches, as CoPS does."""
    b, p, d = patches.shape
    side = math.isqrt(p)
    grid = patches.float().transpose(1, 2).reshape(b, d, side, side)
    return F.avg_pool2d(grid, window, 1, window // 2).flatten(2).transpose(1, 2)


def prepare(batch: Rendered, rng: torch.Generator, window: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pixels (2 p, ...), patch targets (2 p, n) and patch positions: turned, mirrored, and cut to windows."""
    images = torch.from_numpy(batch.images).flatten(0, 1).permute(0, 3, 1, 2)
    masks = torch.from_numpy(batch.masks).float()[:, None] / 255
    turn, mirror = int(torch.randint(4, (1,), generator=rng)), bool(torch.randint(2, (1,), generator=rng))
    images, masks = torch.rot90(images, turn, (2, 3)), torch.rot90(masks, turn, (2, 3))
    if mirror:
        images, masks = images.flip(3), masks.flip(3)
    share, where = F.avg_pool2d(masks, PATCH)[:, 0], None
    if window < GRID:
        pairs, n = len(masks), torch.arange(window)
        centre = torch.multinomial(share.flatten(1) + 1e-6, 1, generator=rng)[:, 0]
        top = (centre // GRID - torch.randint(window, (pairs,), generator=rng)).clamp(0, GRID - window)
        left = (centre % GRID - torch.randint(window, (pairs,), generator=rng)).clamp(0, GRID - window)
        where = ((top[:, None, None] + n[:, None]) * GRID + left[:, None, None] + n).flatten(1)
        share = share.flatten(1).gather(1, where)
        where, side = where.repeat(2, 1), window * PATCH
        corners = [(int(y) * PATCH, int(x) * PATCH) for y, x in zip(top.repeat(2), left.repeat(2), strict=True)]
        images = torch.stack([i[:, y : y + side, x : x + side] for i, (y, x) in zip(images, corners, strict=True)])
    target = (4 * share.flatten(1)).clamp(max=1)
    return (images.float() / 255 - MEAN) / STD, torch.cat([torch.zeros_like(target), target]), where


def peak(patches: Tensor, axis: Tensor, state: Tensor) -> Tensor:
    """Cross-entropy of the image's state as told by the mean of its four most anomalous patches."""
    logits = patch_logits(patches, axis)
    return F.binary_cross_entropy_with_logits(logits.topk(4).values.mean(1), state)


@cache
def native(device: torch.device) -> bool:
    """Whether the device computes in bfloat16; a CPU that only emulates it takes many times as long."""
    able = torch.cpu.get_capabilities()  # bf16 is ARM's
    return device.type != "cpu" or any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def objective(
    clip: CLIP, tokenizer: SimpleTokenizer, batch: Rendered, rng: torch.Generator, window: int, device: torch.device
) -> dict[str, Tensor]:
    """Every term of the loss, unweighted, and the accuracy of the state."""
    pixels, target, where = prepare(batch, rng, window)
    tokens = tokenize(tokenizer, batch.captions[0] + batch.captions[1]).to(device)
    early, pool = int(torch.randint(3, 6, (1,), generator=rng)), 3 + 2 * int(torch.randint(2, (1,), generator=rng))
    with torch.autocast(device.type, torch.bfloat16, enabled=native(device)):
        views = look(clip, pixels.to(device), None if where is None else where.to(device), early)
        texts = speak(clip, tokens)
    pairs, target = len(batch.masks), target.to(device)
    state = (torch.arange(2 * pairs, device=device) >= pairs).float()
    axis = (texts[pairs:] - texts[:pairs]).repeat(2, 1)
    truth, said = torch.from_numpy(batch.truth).to(device), torch.from_numpy(batch.said).to(device)
    category, defect = truth[:, 0].repeat(2), torch.cat([torch.full_like(truth[:, 1], -2), truth[:, 1]])
    named, told = said[:, 0].repeat(2), torch.cat([torch.full_like(said[:, 1], UNSAID), said[:, 1]])
    true = (state[:, None] == state) & ((named == UNSAID) | (named == category[:, None]))
    true &= (told == UNSAID) | (told == defect[:, None])
    image, plain = F.normalize(views.image.float(), dim=-1), F.normalize(views.plain.float(), dim=-1)
    margin = (image * axis).sum(-1) / TAU
    logits = image @ texts.T / TAU
    plain_logits = plain @ texts.T / TAU
    binary = F.binary_cross_entropy_with_logits
    return {
        "state": binary(margin, state) + 0.25 * binary((plain * axis).sum(-1) / TAU, state),
        "contrast": contrast(logits, true) + contrast(logits.T, true.T) + 0.25 * contrast(plain_logits, true),
        "values": dense(views.values, axis, target),
        "pooled": dense(pooled(views.values, pool), axis, target),
        "peak": peak(pooled(views.values, 3), axis, state),
        "original": dense(views.original, axis, target),
        "early": dense(views.early, axis, target),
        "accuracy": ((margin > 0) == (state > 0)).float().mean().detach(),
    }


# ---- training --------------------------------------------------------------------------------------------------------


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` (match_rms_adamw), which knows bfloat16 only, in float32 where bfloat16 is emulated."""

    COEFFICIENTS, STEPS, MOMENTUM = (3.4445, -4.7750, 2.0315), 5, 0.95

    def __init__(self, params: list[nn.Parameter], lr: float, weight_decay: float):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - self.MOMENTUM)
                update = self.orthogonal(p.grad.lerp(mean, self.MOMENTUM))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-0.2 * group["lr"] * math.sqrt(max(p.shape)))

    def orthogonal(self, x: Tensor) -> Tensor:
        """About the nearest semi-orthogonal matrix, by Newton and Schulz's iteration."""
        a, b, c = self.COEFFICIENTS
        tall = x.shape[0] > x.shape[1]
        y = (x.T if tall else x).to(torch.bfloat16 if native(x.device) else torch.float32)
        y = y / y.norm().clamp(min=1e-7)
        for _ in range(self.STEPS):
            gram = y @ y.T
            y = torch.addmm(y, torch.addmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
        return (y.T if tall else y).to(x.dtype)


def optimizers(clip: CLIP, rate: float, kind: str) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest."""
    clip.logit_scale.requires_grad_(False)
    blocks = [p for n, p in clip.named_parameters() if "resblocks" in n and p.ndim == 2]
    chosen = {id(p) for p in blocks} if kind == "muon" else set()
    rest = [p for p in clip.parameters() if p.requires_grad and id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    out: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=min(rate, 1e-3), betas=(0.9, 0.98))]
    if chosen:
        out.append(Muon(blocks, lr=rate, weight_decay=0.05))
    for optimizer in out:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return out


def save(file: Path, content: object) -> None:
    """Write at one stroke: a reader sees the old file or the new one."""
    part = file.with_suffix(".part")
    torch.save(content, part)
    os.replace(part, file)


@dataclass
class Progress:
    """How far a run has come. `decay_at` is the step at which the decay began, None before."""

    step: int = 0
    decay_at: int | None = None

    def end(self, options: argparse.Namespace) -> int:
        return options.steps if self.decay_at is None else self.decay_at + options.decay_steps

    def factor(self, options: argparse.Namespace) -> float:
        """Of the peak learning rate: a linear warm-up, a plateau, a linear decay to zero."""
        warm = min(1.0, (self.step + 1) / WARM_UP)
        into = 0 if self.decay_at is None else max(0, self.step - self.decay_at)
        return warm * (1 - into / options.decay_steps)


def train(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device, run = torch.device(options.device), options.run
    run.mkdir(parents=True, exist_ok=True)
    vocabulary, checkpoint = run / VOCABULARY, run / CHECKPOINT
    stage = STAGES[options.stage]
    if options.start and not vocabulary.exists():
        shutil.copyfile(options.start / VOCABULARY, vocabulary)
    if not vocabulary.exists():
        write_vocabulary(vocabulary)
    tokenizer = SimpleTokenizer(bpe_path=str(vocabulary))
    config = architecture(tokenizer.vocab_size)
    clip = CLIP(**config)
    nn.init.constant_(clip.logit_scale, math.log(1 / TAU))
    if options.start:
        clip.load_state_dict(load_file(options.start / WEIGHTS_FILE))
    clip.to(device)
    steppers, progress = optimizers(clip, options.rate, options.optimizer), Progress(0, options.decay_at)
    if checkpoint.exists():
        content = torch.load(checkpoint, map_location=device, weights_only=True)
        clip.load_state_dict(content["clip"])
        for optimizer, state in zip(steppers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        progress = Progress(content["step"], options.decay_at if content["decay_at"] is None else content["decay_at"])
    said = {
        key: getattr(options, key) for key in ("stage", "steps", "decay_steps", "seed", "pairs", "rate", "optimizer")
    }
    if options.start:
        said["start"] = json.loads((options.start / RECIPE).read_text())
    print(json.dumps({"options": said, "from step": progress.step}), flush=True)
    batches = Batches(options.seed, progress.step, options.pairs, vocabulary, stage, options.workers)
    began, first, means = time.perf_counter(), progress.step, Counter[str]()
    while True:
        planned = progress.step >= options.steps - options.decay_steps
        if progress.decay_at is None and (planned or (run / "decay").exists()):
            progress.decay_at = progress.step
            print(f"decay begins at step {progress.step}", flush=True)
        end = progress.end(options)
        if progress.step >= end:
            break
        for group in (group for optimizer in steppers for group in optimizer.param_groups):
            group["lr"] = group["peak"] * progress.factor(options)
        rng = torch.Generator().manual_seed(options.seed * 1_000_003 + progress.step)
        terms = objective(clip, tokenizer, batches.take(), rng, stage.window(progress.step, end), device)
        loss = sum(weight * terms[name] for name, weight in stage.weights.items())
        clip.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        for optimizer in steppers:
            optimizer.step()
        progress.step += 1
        means.update({name: value.item() / LOG_EVERY for name, value in terms.items()})
        if progress.step % LOG_EVERY == 0:
            speed = (progress.step - first) / (time.perf_counter() - began)
            rate, left = 2 * options.pairs * speed, (end - progress.step) / speed / 60
            shown = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            print(f"step {progress.step}/{end} {rate:.0f} images/s, {left:.0f} min left | {shown}", flush=True)
            means.clear()
        if progress.step % options.save_every == 0 or progress.step == end:
            states = [optimizer.state_dict() for optimizer in steppers]
            content = {"clip": clip.state_dict(), "optimizers": states, "options": said, "config": config}
            counts = {"step": progress.step, "decay_at": progress.decay_at, "images": 2 * options.pairs * progress.step}
            save(checkpoint, content | counts)
    batches.close()


# ---- export ----------------------------------------------------------------------------------------------------------


def export(options: argparse.Namespace) -> None:
    """The last checkpoint of a run as a folder that open_clip loads: half precision, configuration, vocabulary."""
    content = torch.load(options.run / CHECKPOINT, map_location="cpu", weights_only=True)
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().contiguous() for name, value in content["clip"].items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)
    shutil.copyfile(options.run / VOCABULARY, folder / VOCABULARY)
    preprocess = {
        "size": IMAGE, "mode": "RGB", "mean": MEAN.flatten().tolist(), "std": STD.flatten().tolist(),
        "interpolation": "bicubic", "resize_mode": "squash",
    }  # fmt: skip
    model = {"model_cfg": content["config"], "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(model, indent=2) + "\n")
    recipe = {
        "options": content.get("options", {}),
        "steps": content["step"],
        "decay from step": content["decay_at"],
        "images": content["images"],
        "generator version": VERSION,
        "sha256": digest(folder / WEIGHTS_FILE),
    }
    (folder / RECIPE).write_text(json.dumps(recipe, indent=2) + "\n")
    print(json.dumps(recipe, indent=2))


# ---- measurement -----------------------------------------------------------------------------------------------------


def load(folder: Path) -> tuple[CLIP, SimpleTokenizer]:
    """The model of a folder, through open_clip."""
    clip = open_clip.create_model(f"local-dir:{folder}").eval()
    return clip, open_clip.get_tokenizer(f"local-dir:{folder}", bpe_path=str(folder / VOCABULARY))


@torch.no_grad()
def state_axis(clip: CLIP, tokenizer: SimpleTokenizer) -> Tensor:
    """Anomalous minus normal text feature of an "object": each the mean over states and templates."""
    means = []
    for states in (NORMAL, ANOMALOUS):
        texts = [template.format(state.format("object")) for state in states for template in TEMPLATES[2:12]]
        means.append(F.normalize(speak(clip, tokenize(tokenizer, texts)).mean(0), dim=0))
    return means[1] - means[0]


Maps = dict[str, np.ndarray]
Detector = Callable[[np.ndarray], tuple[np.ndarray, Maps]]  # images (n, s, s, 3) to scores (n,), maps (n, s, s) by name


def zero_shot(clip: CLIP, axis: Tensor) -> Detector:
    """Hand-written prompts: the global feature scores the image, pooled features of the value path its pixels."""

    encode = ImageEncoder(clip.visual)

    @torch.no_grad()
    def detect(images: np.ndarray) -> tuple[np.ndarray, Maps]:
        small = np.stack([cv2.resize(image, (IMAGE, IMAGE), interpolation=cv2.INTER_AREA) for image in images])
        pixels = (torch.from_numpy(small).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
        features, maps = encode(pixels), {}
        for pool in POOLS:
            patches = (F.normalize(pooled(features.patches, pool), dim=-1) @ axis).view(-1, 1, GRID, GRID)
            maps[f"pool {pool}"] = F.interpolate(patches, images.shape[1:3], mode="bilinear")[:, 0].numpy()
        return (F.normalize(features.image, dim=-1) @ axis).numpy(), maps

    return detect


def hand_crafted(images: np.ndarray) -> tuple[np.ndarray, Maps]:
    """The package's detector without learning, at the images' own size."""
    odd = [odd_places(image) for image in images]
    maps = [cv2.resize(places, images.shape[2:0:-1]) for places in odd]
    return np.array([odd_share(places) for places in odd], np.float32), {"as is": np.stack(maps)}


def aurocs(detect: Detector, examples: list[Example]) -> dict[str, float]:
    """AUROC in percent over images of one category: of the images, and of their pixels by each map."""
    parts = [detect(np.stack([e.image for e in examples[i : i + 50]])) for i in range(0, len(examples), 50)]
    scores = np.concatenate([score for score, _ in parts])
    anomalous, masks = np.array([e.anomalous for e in examples]), np.stack([e.mask[::2, ::2] for e in examples])
    out = {"image": 100 * ranking_scores(scores[~anomalous], scores[anomalous]).auroc}
    for name in parts[0][1]:
        plane = np.concatenate([maps[name] for _, maps in parts])[:, ::2, ::2]
        out[f"pixel, {name}"] = 100 * ranking_scores(plane[~masks], plane[masks]).auroc
    return out


def measure(options: argparse.Namespace) -> None:
    """AUROC of the folder's model, of random weights and of the hand-crafted detector on the same images."""
    torch.set_num_threads(options.threads)
    clip, tokenizer = load(options.folder)
    rows: dict[str, Detector] = {"mini": zero_shot(clip, state_axis(clip, tokenizer)), "hand-crafted": hand_crafted}
    config = json.loads((options.folder / "open_clip_config.json").read_text())["model_cfg"]
    for seed in range(options.random):
        torch.manual_seed(seed)
        control = CLIP(**config).eval()
        rows[f"random weights, seed {seed}"] = zero_shot(control, state_axis(control, tokenizer))
    results: dict[str, dict[str, dict[str, float]]] = {row: {} for row in rows}
    names = [c.name for c in categories(options.split)]
    for number, name in enumerate(names, 1):
        examples = [
            example(name, role, i, options.seed) for role in ("normal", "anomalous") for i in range(options.images)
        ]
        for row, detect in rows.items():
            results[row][name] = aurocs(detect, examples)
            shown = ", ".join(f"{what} {value:.1f}" for what, value in results[row][name].items())
            print(f"{number}/{len(names)} {name} | {row}: {shown}", flush=True)
    for row, found in results.items():
        means = {what: float(np.mean([values[what] for values in found.values()])) for what in found[names[0]]}
        print(f"mean | {row}: " + ", ".join(f"{what} {value:.1f}" for what, value in means.items()), flush=True)
        found["mean"] = means
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train")
    command.set_defaults(call=train)
    add = command.add_argument
    add("run", type=Path, help="folder of the run: vocabulary and checkpoint")
    add("--stage", choices=tuple(STAGES), default="all", help="what is seen and weighed")
    add("--start", type=Path, help="folder of an exported model to go on from, instead of random weights")
    add("--steps", type=int, required=True, help="length of the run, decay included")
    add("--decay-steps", type=int, default=300)
    add("--decay-at", type=int, help="start the decay at this step instead of in time for --steps")
    add("--seed", type=int, default=0)
    add("--pairs", type=int, default=32, help="pairs of a normal and an anomalous image per step")
    add("--rate", type=float, default=2e-3, help="peak learning rate")
    add("--optimizer", choices=("muon", "adamw"), default="muon")
    add("--save-every", type=int, default=100)
    add("--workers", type=int, default=1)
    add("--threads", type=int, default=2)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    command = commands.add_parser("export")
    command.set_defaults(call=export)
    command.add_argument("run", type=Path)
    command.add_argument("folder", type=Path)
    command = commands.add_parser("measure")
    command.set_defaults(call=measure)
    add = command.add_argument
    add("folder", type=Path)
    add("--split", choices=("auxiliary", "test"), default="auxiliary")
    add("--images", type=int, default=100, help="normal ones and anomalous ones per category")
    add("--seed", type=int, default=0)
    add("--random", type=int, default=3, help="how many random models to measure")
    add("--threads", type=int, default=2)
    add("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    options.call(options)


if __name__ == "__main__":
    main()
