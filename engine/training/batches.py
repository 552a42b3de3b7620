"""Batches in the order of their steps: made here, or ahead of time by processes where a GPU would wait for them."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from engine.training.data import Corpus
from engine.training.objective import Batch, make_batch
from engine.training.settings import Recipe


@dataclass(frozen=True, eq=False)
class Steps(Dataset[Batch]):
    """Step -> this process's share of its batch."""

    corpus: Corpus
    recipe: Recipe
    numbers: Sequence[int]

    def __getitem__(self, step: int) -> Batch:
        return make_batch(self.corpus, self.recipe, step, self.numbers)


def batches(corpus: Corpus, recipe: Recipe, first: int, numbers: Sequence[int], workers: int = 0) -> Iterator[Batch]:
    """The batches of steps first, first + 1, ... of the recipe; the same for any number of workers.

    Args:
        corpus: the recordings.
        recipe: the batch, the seed and how many steps there are.
        first: the first step.
        numbers: of the examples that are wanted of every batch.
        workers: processes that make them; 0 for none.
    """
    steps = range(first, recipe.training.steps)
    given = Steps(corpus, recipe, numbers)
    return iter(DataLoader(given, None, sampler=steps, num_workers=workers, worker_init_fn=begin_worker))


def begin_worker(_: int) -> None:
    """Who makes batches takes one thread, and leaves signals to the training: that one still needs batches to end.

    Signals come to whole groups of processes. A worker ends when the training tells it to, or is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    one_thread()


def one_thread() -> None:
    """NumPy's products on one thread: a dozen processes with one for each core would stand in each other's way."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
