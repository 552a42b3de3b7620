"""Batches in the order of their steps, computed here or ahead of time by worker processes beside a GPU."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from engine.training.data import Corpus
from engine.training.objective import Batch, make_batch
from engine.training.settings import Recipe
from engine.training.unroll import TuningBatch, make_tuning_batch

AnyBatch = Batch | TuningBatch


@dataclass(frozen=True, eq=False)
class Steps(Dataset[AnyBatch]):
    """The batches of all steps by their number, restricted to the examples of this process."""

    corpus: Corpus
    recipe: Recipe
    numbers: Sequence[int]

    def __getitem__(self, step: int) -> AnyBatch:
        make = make_batch if self.recipe.unroll is None else make_tuning_batch
        return make(self.corpus, self.recipe, step, self.numbers)


def batches(corpus: Corpus, recipe: Recipe, first: int, numbers: Sequence[int], workers: int = 0) -> Iterator[AnyBatch]:
    """Return the batches of steps first, first + 1, ... of a recipe; they are the same for any number of workers.

    Args:
        corpus: the recordings.
        recipe: holds the batch size, the seed and the number of steps.
        first: the first step.
        numbers: of the examples to take from every batch.
        workers: processes that compute them; 0 for none.
    """
    steps = Steps(corpus, recipe, numbers)
    order = range(first, recipe.training.steps)
    return iter(DataLoader(steps, None, sampler=order, num_workers=workers, worker_init_fn=begin_worker))


def begin_worker(_: int) -> None:
    """Set up a worker process: it ignores signals and uses one thread.

    Signals reach whole groups of processes, but the training still needs batches to finish its step. A worker ends when
    the training tells it to, or has ended itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    use_one_thread()


def use_one_thread() -> None:
    """Limit NumPy's products to one thread.

    A dozen processes with one thread per core each would slow each other down.
    """
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
