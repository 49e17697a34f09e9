"""Images as they come, decoded ahead by threads: as much in memory for a million of them as for ten."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.dataset import preprocess
from cops_lightning.data.readers.images import ReadingError
from cops_lightning.data.readers.pictures import Picture


@dataclass(frozen=True)
class Decoded:
    """What is seen of a picture, and the picture's width and height."""

    picture: Picture
    image: Tensor
    size: tuple[int, int]


@dataclass(frozen=True)
class Unreadable:
    """A picture that cannot be read, and why, in a sentence that names it."""

    picture: Picture
    reason: str


Prepare = Callable[[Image.Image, int], Tensor]


def decoded(
    pictures: Iterable[Picture], size: int, workers: int = 2, prepare: Prepare = preprocess
) -> Iterator[Decoded | Unreadable]:
    """Pictures decoded and brought to `size` pixels, in their order, a few ahead of what is asked for.

    `workers` threads decode; with 0 each picture is decoded when it is asked for. `prepare` makes of an RGB image of
    any size what is seen of it: by default the encoder's input.
    """
    if workers == 0:
        yield from (_decode(picture, size, prepare) for picture in pictures)
        return
    waiting: deque[Future[Decoded | Unreadable]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for picture in pictures:
                waiting.append(pool.submit(_decode, picture, size, prepare))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _decode(picture: Picture, size: int, prepare: Prepare) -> Decoded | Unreadable:
    try:
        image = picture.open()
        return Decoded(picture, prepare(image, size), image.size)
    except DatasetError as error:
        return Unreadable(picture, str(error))
    except Exception as error:  # a library that decodes may raise anything for bytes that it does not expect
        return Unreadable(picture, str(ReadingError(f"{picture.name} cannot be read: {type(error).__name__}.")))
