"""Those that train the same model side by side, each in a process of its own.

A peer waits in a blocking read until it is told to take a step, and answers when it is ready for
the next. What a peer needs is imported in its own process only, so that nobody's settings touch
another: PyTorch's peers import nothing of ours."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import measuring
import numpy as np
from shapes import LR, WEIGHT_DECAY, Shape

if TYPE_CHECKING:
    from torch import Tensor

BATCHES = 8  # Different ones; then they come again.


class Turn:
    """A peer's side of the pipe: called before every step and after the last."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._started = pipe, time.perf_counter()
        self.libraries = 0

    def __call__(self) -> None:
        """Tell the seconds since the last word, and wait for the next. Ends the
        process when that is the wish."""
        self.libraries = self.libraries or measuring.memory("VmRSS")
        self._pipe.send(time.perf_counter() - self._started)
        if self._pipe.recv() == "stop":
            self._pipe.send((measuring.memory("VmHWM"), self.libraries))
            raise SystemExit
        self._started = time.perf_counter()


def tokens_of(shape: Shape) -> list[np.ndarray]:
    """Random tokens, the same for every peer: (B, T+1) each."""
    chance = np.random.default_rng(1)
    return [
        chance.integers(shape.vocabulary, size=(shape.batch, shape.context + 1))
        for _ in range(BATCHES)
    ]


def portable(shape: Shape, threads: int, turn: Turn, optimizer: str = "adamw") -> None:
    """Our training step, with nothing recorded."""
    # First: what it sets must be set before torch is loaded.
    importlib.import_module("pellucid.train")
    from pellucid.families import Llama
    from pellucid.operations import portable as ops
    from pellucid.recipe import Data, Recipe, Source, Train
    from pellucid.train.events import Batch
    from pellucid.train.state import initial
    from pellucid.train.step import training_step

    turn.libraries = measuring.memory("VmRSS")
    ops.configure("cpu", threads)
    layers, width, heads, kv_heads, mlp_width, _, context, batch, tied = shape
    model = Llama(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        mlp_width=mlp_width,
        context=context,
        tied=tied,
    )
    train = Train(batch=batch, microbatch=batch, steps=10**6, warmup=0, lr=LR)
    values = {
        "name": "bench",
        "data": Data(sources=(Source(name="random"),)),
        "model": model,
        "train": train,
    }
    recipe = Recipe.model_validate(
        {**values, "optimizer": {"kind": optimizer, "weight_decay": WEIGHT_DECAY}}
    )
    state, none = initial(recipe, shape.vocabulary), np.zeros(batch, np.int64)
    batches = [
        Batch(
            1,
            none,
            none,
            none,
            ["random"] * batch,
            none,
            tokens_BS.astype(np.uint32),
            np.zeros_like(tokens_BS),
        )
        for tokens_BS in tokens_of(shape)
    ]
    for one in itertools.cycle(batches):
        turn()
        training_step(state, one, recipe)


def plain(
    shape: Shape, threads: int, turn: Turn, bf16: bool = False, compiled: bool = False
) -> None:
    """A plain PyTorch loop: eager or compiled, float32 or under bf16 autocast."""
    import plain
    import torch

    turn.libraries = measuring.memory("VmRSS")
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = plain.Llama(shape)
    step = plain.step_of(model, torch.compile(model) if compiled else model, bf16)
    for tokens_BS in itertools.cycle([torch.from_numpy(one) for one in tokens_of(shape)]):
        turn()
        step(tokens_BS)


def eager_bf16(shape: Shape, threads: int, turn: Turn) -> None:
    plain(shape, threads, turn, bf16=True)


def compiled(shape: Shape, threads: int, turn: Turn) -> None:
    plain(shape, threads, turn, compiled=True)


def compiled_deterministic(shape: Shape, threads: int, turn: Turn) -> None:
    import torch

    torch.use_deterministic_algorithms(True)
    plain(shape, threads, turn, compiled=True)


def trainer(shape: Shape, threads: int, turn: Turn) -> None:
    """Hugging Face's Trainer, its own loop: a callback waits where a step begins."""
    import torch
    import transformers

    turn.libraries = measuring.memory("VmRSS")
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    transformers.logging.set_verbosity_error()

    class Waiting(transformers.TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            turn()

    with tempfile.TemporaryDirectory() as place:
        how = transformers.TrainingArguments(
            output_dir=place,
            use_cpu=True,
            per_device_train_batch_size=shape.batch,
            max_steps=10**6,
            learning_rate=LR,
            weight_decay=WEIGHT_DECAY,
            adam_beta2=0.95,
            max_grad_norm=1.0,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        rows: Any = _rows(torch.from_numpy(np.concatenate(tokens_of(shape))[:, :-1]))
        transformers.Trainer(
            _hugging_face(shape), how, train_dataset=rows, callbacks=[Waiting()]
        ).train()


def _rows(tokens_NT: Tensor) -> list[dict[str, Tensor]]:
    """The sequences ready in memory. The model shifts the labels itself and passes
    over the last of a sequence."""
    return [{"input_ids": tokens_T, "labels": tokens_T} for tokens_T in tokens_NT] * 100


def _hugging_face(shape: Shape) -> Any:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.mlp_width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.tied,
        use_cache=False,
    )
    config._attn_implementation = "sdpa"
    return transformers.LlamaForCausalLM(config)


PEERS: dict[str, Callable[[Shape, int, Turn], None]] = {
    "portable": portable,
    "muon": functools.partial(portable, optimizer="muon"),
    "eager": plain,
    "compile": compiled,
    "compile-deterministic": compiled_deterministic,
    "bf16": eager_bf16,
    "trainer": trainer,
}
_NEEDS = {"trainer": ("transformers", "accelerate")}


def missing(name: str) -> list[str]:
    """The packages that a peer wants and this environment has not."""
    return [
        package for package in _NEEDS.get(name, ()) if importlib.util.find_spec(package) is None
    ]


def _serve(name: str, shape: Shape, threads: int, pipe: Connection) -> None:
    PEERS[name](shape, threads, Turn(pipe))


class Peer:
    """The parent's side: a process that takes one step when it is told to."""

    def __init__(self, name: str, shape: Shape, threads: int) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(name, shape, threads, theirs))
        self._process.start()
        theirs.close()
        self._answer()

    def step(self) -> float:
        """The seconds of one step, until the peer was ready for another."""
        self._pipe.send("step")
        return self._answer()

    def stop(self) -> tuple[int, int]:
        """Peak memory of the process, and its memory once its libraries were loaded, in bytes."""
        self._pipe.send("stop")
        memory = self._answer()
        self._process.join()
        return memory

    def end(self) -> None:
        """Whatever it does; nothing where it has stopped."""
        self._process.kill()
        self._process.join()

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise SystemExit(f"{self.name} ended by itself; what it said stands above") from None


def rounds(peers: list[Peer], count: int) -> Iterator[dict[str, float]]:
    """Seconds of a step of every peer, round by round; who is first changes, and
    every other round runs backwards.

    Between two steps there is a pause in which OpenMP's threads stop spinning.
    """
    for number in range(count):
        first = number // 2 % len(peers)
        order = peers[first:] + peers[:first]
        seconds = {}
        for peer in reversed(order) if number % 2 else order:
            time.sleep(0.03)
            seconds[peer.name] = peer.step()
        yield seconds
