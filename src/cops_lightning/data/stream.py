"""Images as they come, decoded ahead by threads: as much in memory for a million of them as for ten."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.dataset import preprocess
from cops_lightning.data.readers.images import ReadingError
from cops_lightning.data.readers.pictures import Picture


@dataclass(frozen=True)
class Decoded:
    """What the encoder sees of a picture, and the picture's width and height."""

    picture: Picture
    image: Float[Tensor, "3 s s"]
    size: tuple[int, int]


@dataclass(frozen=True)
class Unreadable:
    """A picture that cannot be read, and why, in a sentence that names it."""

    picture: Picture
    reason: str


def decoded(pictures: Iterable[Picture], size: int, workers: int = 2) -> Iterator[Decoded | Unreadable]:
    """Pictures decoded and preprocessed to `size` pixels, in their order, a few ahead of what is asked for.

    `workers` threads decode; with 0 each picture is decoded when it is asked for.
    """
    if workers == 0:
        yield from (_decode(picture, size) for picture in pictures)
        return
    waiting: deque[Future[Decoded | Unreadable]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for picture in pictures:
                waiting.append(pool.submit(_decode, picture, size))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _decode(picture: Picture, size: int) -> Decoded | Unreadable:
    try:
        image = picture.open()
        return Decoded(picture, preprocess(image, size), image.size)
    except DatasetError as error:
        return Unreadable(picture, str(error))
    except Exception as error:  # a library that decodes may raise anything for bytes that it does not expect
        return Unreadable(picture, str(ReadingError(f"{picture.name} cannot be read: {type(error).__name__}.")))
