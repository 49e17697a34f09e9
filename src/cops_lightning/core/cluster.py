"""Work spread over the processes of a Ray cluster by Ray Data: answers come in the order of their items.

A process that dies is started anew, and what it had not answered is done again; nothing else is.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from threading import Timer
from typing import Any, Literal, TypeVar

from cops_lightning.core.errors import ConfigError, CopsError, not_installed, reason, told
from cops_lightning.core.reporting import warn

Answer, Item = TypeVar("Answer"), TypeVar("Item")
Actors = int | Literal["auto"]
SILENT = 10.0  # seconds without an answer, after which is looked whether there is room
TRIES = 3  # times that an item may end its process
_PACKAGE = "cops_lightning"


class Cluster:
    """A Ray cluster that this process is connected to; `cluster` gives one."""

    @property
    def gpus(self) -> int:
        """How many GPUs its machines have together."""
        import ray

        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return int(resources.get("GPU", 0))

    def spread(
        self,
        work: Callable[[Item], Answer],
        items: Sequence[Item],
        *,
        actors: Actors = "auto",
        gpu: bool = False,
        named: Callable[[Item], str] = str,
    ) -> Iterator[Answer]:
        """What `work` makes of items, in their order, as it comes. All items are held here, pickled, and few answers.

        Args:
            work: copied once to each process.
            items: whose answers are made, each by one process.
            actors: how many processes, each with a CPU; "auto" is one for each GPU, or where none is used for each
                machine. Those start for which there is room, the others when there is.
            gpu: whether each process needs a GPU.
            named: what an error calls an item.

        Raises the CopsError of `work`, and CopsError where items end their processes again and again, where the cluster
        has too little of what is asked for, or Ray itself fails.
        """
        import ray
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.execution_options.preserve_order = True
        count = self._count(actors, gpu)
        tries = ray.remote(num_cpus=0, max_restarts=-1)(_Tries).remote()
        # In a list, so that a process that is started anew asks for the work, and need not be given it.
        shared = [version(_PACKAGE), ray.put(work), tries, TRIES]
        rows = [{"number": number, "item": pickle.dumps(item)} for number, item in enumerate(items)]
        answers = ray.data.from_items(rows, override_num_blocks=max(1, len(rows))).map_batches(
            _Process,
            fn_constructor_args=(shared,),
            compute=ray.data.ActorPoolStrategy(size=min(count, max(1, len(rows)))),
            batch_size=1,
            num_cpus=1,
            num_gpus=1 if gpu else None,
        )
        waiting = Timer(SILENT, _say_what_is_taken, [gpu])
        waiting.daemon = True
        waiting.start()
        try:
            for item, row in zip(items, answers.iter_rows() if rows else (), strict=True):
                waiting.cancel()
                answer = pickle.loads(row["answer"])
                if isinstance(answer, _Deadly):
                    raise CopsError(
                        f"{named(item)}: {TRIES} processes ended one after the other at this. See that the machines of "
                        "the cluster have memory enough, or leave it out."
                    )
                if isinstance(answer, CopsError):
                    raise answer
                yield answer
        except ray.exceptions.RayTaskError:  # a defect of `work`
            raise
        except ray.exceptions.RayError as error:
            raise CopsError(f"Ray could not go on ({reason(error)}). Look at the cluster.") from error
        finally:
            waiting.cancel()

    def _count(self, actors: Actors, gpu: bool) -> int:
        """How many processes, of which each needs a CPU, and a GPU where asked for: what others use may become free."""
        import ray

        if gpu:
            count = self.gpus if actors == "auto" else actors
            if count < 1 or count > self.gpus:
                raise ConfigError(f"actors={actors} on device=cuda need as many GPUs; the cluster has {self.gpus}.")
            return count
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        cpus = [own for node in nodes if node["Alive"] and (own := int(node["Resources"].get("CPU", 0)))]
        count = len(cpus) if actors == "auto" else actors
        if count < 1 or count > sum(cpus):
            raise ConfigError(f"actors={actors} need a CPU each; the cluster has {sum(cpus)}. Ask for fewer.")
        return count


@contextmanager
def cluster(address: str | None = None) -> Iterator[Cluster]:
    """The Ray cluster at `address`, that of the variable RAY_ADDRESS, or one of this machine for as long as the block.

    Where this process is connected to a cluster already, it is that one. Raises ConfigError where Ray is not installed,
    or the cluster cannot be reached.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise ConfigError(not_installed("over=ray", "cops_lightning[ray]"))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # on stderr, where only our own sentences are of use
    import ray

    if ray.is_initialized():
        yield Cluster()
        return
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"include_dashboard": False} if where == "local" else {}
    with told(ConfigError, f"The Ray cluster {where} cannot be reached", "Give the address of one that runs."):
        ray.init(where, logging_level=logging.ERROR, log_to_driver=False, **options)
    try:
        yield Cluster()
    finally:
        ray.shutdown()


def _say_what_is_taken(gpu: bool) -> None:
    """Say that nothing can start where others use all of the cluster."""
    import ray

    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    taken = [kind for kind in ("CPU", *["GPU"] * gpu) if free.get(kind, 0) < 1]
    if taken:
        warn(f"All {' and '.join(f'{kind}s' for kind in taken)} of the cluster are in use. Waiting for one.")


class _Deadly:
    """The answer to an item that ended its process too often."""


class _Tries:
    """How often each item was begun."""

    def __init__(self) -> None:
        self.begun: dict[int, int] = {}

    def begin(self, number: int) -> int:
        """Count an item, and say how often it was begun before."""
        before = self.begun.get(number, 0)
        self.begun[number] = before + 1
        return before

    def end(self, number: int) -> None:
        """Forget an item that was answered."""
        self.begun.pop(number, None)


class _Process:
    """What a process of the cluster does with items."""

    def __init__(self, shared: list[Any]) -> None:
        import ray

        self.version, work, self.tries, self.most = shared
        self.get = ray.get
        self.work = ray.get(work) if self.version == version(_PACKAGE) else None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Answers to items, with what else they hold; each is bytes."""
        return {"answer": [pickle.dumps(self._answer(*of)) for of in zip(batch["number"], batch["item"], strict=True)]}

    def _answer(self, number: int, item: bytes) -> Any:
        if self.work is None:
            here = version(_PACKAGE)
            return CopsError(f"A machine of the cluster has {_PACKAGE} {here}, this one {self.version}. Install one.")
        if self.get(self.tries.begin.remote(int(number))) >= self.most:
            return _Deadly()
        try:
            answer = self.work(pickle.loads(item))
        except CopsError as error:
            return error
        self.tries.end.remote(int(number))
        return answer
