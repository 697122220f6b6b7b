"""The vectors of a local collection in memory, as one matrix: a search is one product, exact and without an index.

100,000 vectors of 384 numbers are 150 MB and take 15 ms, half of what an exact scan in SQL would take to read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from kadre.base.errors import ProblemError
from kadre.base.problems import Problem
from kadre.engine import arrays
from kadre.engine.vectors.port import VectorsRefused

try:
    np = arrays.numpy()
except ImportError as absent:
    raise ProblemError(
        [
            Problem(
                "StoreLibraryMissing", "a local vector store needs the extra `vectors`", "pip install 'kadre[vectors]'"
            )
        ]
    ) from absent

MAX_BYTES = 2 * 1024**3
"""Of one collection's vectors. More than this belongs into a server."""
FIRST_ROWS = 1024
Row = tuple[int, bytes]


class Near(NamedTuple):
    """A number that was given with a vector, and how alike that one is."""

    no: int
    score: float


class Mirror:
    """Vectors by number, in rising order of it. A row that was dropped stays until the mirror is made anew."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.last = 0
        """The highest number there was."""
        self._rows = 0
        self._dead = 0
        self._matrix: Any = np.empty((0, dimension), dtype=np.float32)
        self._numbers: Any = np.empty(0, dtype=np.int64)
        self._alive: Any = np.empty(0, dtype=bool)

    def __len__(self) -> int:
        return self._rows - self._dead

    @property
    def worn(self) -> bool:
        """Whether so much of it was dropped that it should be made anew."""
        return self._dead > FIRST_ROWS and self._dead > self._rows // 2

    def add(self, rows: Sequence[Row]) -> None:
        """Vectors as `packed` makes them, each with a number above `last`, in rising order."""
        if not rows:
            return
        end = self._rows + len(rows)
        self._grow(end)
        joined = np.frombuffer(b"".join(vector for _, vector in rows), dtype=np.float32)
        self._matrix[self._rows : end] = joined.reshape(len(rows), self.dimension)
        self._numbers[self._rows : end] = [number for number, _ in rows]
        self._alive[self._rows : end] = True
        self._rows, self.last = end, rows[-1][0]

    def drop(self, numbers: Iterable[int]) -> None:
        """These are there no more."""
        rows = self._rows_of(np.fromiter(numbers, dtype=np.int64))
        rows = rows[self._alive[rows]]
        self._alive[rows] = False
        self._dead += len(rows)

    def nearest(self, vector: bytes, top_k: int, among: Iterable[int] | None = None) -> list[Near]:
        """The best, best first; `among`: numbers that alone count."""
        wanted = np.frombuffer(vector, dtype=np.float32)
        if among is None:
            rows, scores = None, self._matrix[: self._rows] @ wanted
            if self._dead:
                scores[~self._alive[: self._rows]] = -np.inf
        else:
            rows = self._rows_of(np.fromiter(among, dtype=np.int64))
            rows = rows[self._alive[rows]]
            scores = self._matrix[rows] @ wanted
        count = min(top_k, len(self) if rows is None else len(rows))
        if not count:
            return []
        best = np.argpartition(scores, -count)[-count:]
        best = best[np.argsort(-scores[best], kind="stable")]
        numbers = self._numbers[best if rows is None else rows[best]]
        # Rounding makes a vector a hair more than itself.
        return [Near(int(no), float(score)) for no, score in zip(numbers, np.clip(scores[best], -1, 1), strict=True)]

    def _rows_of(self, numbers: Any) -> Any:
        known = self._numbers[: self._rows]
        rows = np.searchsorted(known, numbers)
        rows = np.minimum(rows, max(0, self._rows - 1))
        return rows[known[rows] == numbers] if self._rows else rows[:0]

    def _grow(self, rows: int) -> None:
        if rows <= len(self._numbers):
            return
        if rows * self.dimension * 4 > MAX_BYTES:
            most = MAX_BYTES // (self.dimension * 4)
            raise VectorsRefused(f"a local store holds at most {most} vectors of this size; use pgvector or milvus")
        size = max(FIRST_ROWS, rows, len(self._numbers) + len(self._numbers) // 4)
        self._matrix = _larger(self._matrix, (size, self.dimension), self._rows)
        self._numbers = _larger(self._numbers, (size,), self._rows)
        self._alive = _larger(self._alive, (size,), self._rows)


def packed(vector: Sequence[float]) -> bytes:
    """The vector with length 1, as 32-bit numbers."""
    made = np.asarray(vector, dtype=np.float64)
    return bytes((made / np.linalg.norm(made)).astype(np.float32).tobytes())


def _larger(array: Any, shape: tuple[int, ...], used: int) -> Any:
    made = np.empty(shape, dtype=array.dtype)
    made[:used] = array[:used]
    return made
