"""The folder of a run: its settings, its checkpoint, who and what the numbers mean, its index."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poeem.config import Config
from poeem.config_file import read_toml, write_config
from poeem.errors import CheckpointError, ConfigError, IdError, SaveError
from poeem.evaluation.metrics import Grouped
from poeem.files import UNREADABLE, atomic_write, reason
from poeem.index.own_ids import lead_titles
from poeem.types import Array, IntArray

_UNFINISHED = "unfinished"
_TEXTS = ("titles", "query_texts", "item_texts")

# Settings of what is shown, what is kept on the way, and of the machine; not of the model.
_FREE_TO_CHANGE = ("eval_every", "eval_users", "checkpoint_every", "num_threads", "device")


@dataclass(frozen=True)
class RunFolder:
    """Names the files of a run.

    config.toml, checkpoint.safetensors, ids.npz; and items.poeem once an index was built.

    A run that replaces one with a checkpoint is trained in `unfinished/` and takes its place only
    when it has ended, so that whatever stops it, a whole run is here. The old index stays until
    one is built from the new run; its lineage says that it is of another model.
    """

    path: Path

    @property
    def name(self) -> str:
        """The name of the folder; of `unfinished` that of the one whose place it will take."""
        path = self.path.resolve()
        replaces = path.name == _UNFINISHED and RunFolder(path.parent).holds_a_run()
        return path.parent.name if replaces else path.name

    @property
    def config(self) -> Path:
        """All settings."""
        return self.path / "config.toml"

    @property
    def checkpoint(self) -> Path:
        """Weights, optimizers and position."""
        return self.path / "checkpoint.safetensors"

    @property
    def ids(self) -> Path:
        """Ids, titles and histories."""
        return self.path / "ids.npz"

    @property
    def index(self) -> Path:
        """The index file."""
        return self.path / "items.poeem"

    def holds_a_run(self) -> bool:
        """Return whether a run was begun here."""
        return self.config.exists() or self.checkpoint.exists() or self.ids.exists()

    def read_config(self) -> Config:
        """Return the run's settings.

        Raises:
            CheckpointError: there is no run here.
            ConfigError: they cannot be read.
        """
        self._settle()
        if not self.config.exists():
            raise CheckpointError(f"{self.path}: no run there, {self.config.name} is missing")
        return Config.from_dict(read_toml(self.config))

    def require_same(self, config: Config) -> None:
        """Check that going on with `config` would give what an unbroken training gives.

        Raises:
            ConfigError: a setting that matters differs; all that do are named.
        """
        begun = self.read_config()
        differing = [
            f"[{section}] {name} = {wanted!r} (was {was!r})"
            for section in ("data", "model", "layer", "train")
            for name, was, wanted in _compare(getattr(begun, section), getattr(config, section))
            if name not in _FREE_TO_CHANGE
        ]
        if differing:
            raise ConfigError(
                f"resume: {self.path} was begun with other settings: {'; '.join(differing)}"
            )

    def make(self) -> None:
        """Make the folder if it is missing.

        Raises:
            SaveError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SaveError(f"out: {self.path} cannot be a folder: {error}") from error

    @property
    def unfinished(self) -> RunFolder:
        """Where a run is trained that is to replace the one here."""
        return RunFolder(self.path / _UNFINISHED)

    def to_resume(self) -> RunFolder:
        """Return where there is a run to go on with: `unfinished`, or else here."""
        self._settle()
        return self.unfinished if self.unfinished.config.exists() else self

    def begin(self, config: Config, catalogue: Catalogue) -> RunFolder:
        """Begin a run: write settings and ids, and return the folder to train in.

        It is `unfinished` where there is a run to replace, else this one. Call `finish` at the end.

        Raises:
            SaveError: the system refused.
        """
        files = self.begin_folder()
        catalogue.save(files.ids)
        write_config(config, files.config)
        return files

    def begin_folder(self) -> RunFolder:
        """Make the folder that `begin` returns, empty of an earlier attempt."""
        self._settle()
        shutil.rmtree(self.unfinished.path, ignore_errors=True)
        files = self.unfinished if self.checkpoint.exists() else self
        files.make()
        return files

    def finish(self) -> None:
        """Let what is in `unfinished`, if anything, take the place of what is here.

        Raises:
            SaveError: the system refused; calling it again, or reading the run, goes on with it.
        """
        if self.unfinished.config.exists():
            try:
                os.replace(self.unfinished.path, self._finished)
            except OSError as error:
                raise SaveError(f"{self._finished}: cannot be made: {error}") from error
        self._settle()

    @property
    def _finished(self) -> Path:
        return self.path / "finished"

    def _settle(self) -> None:
        """Move what has been finished to its place, even if an earlier move was cut off."""
        if not self._finished.exists():
            return
        try:
            for path in sorted(self._finished.iterdir()):
                target = self.path / path.name
                if target.is_dir():
                    shutil.rmtree(target)
                os.replace(path, target)
            self._finished.rmdir()
        except OSError as error:
            raise SaveError(f"{self.path}: the new run cannot take its place: {error}") from error


def _compare(was: object, wanted: object) -> list[tuple[str, object, object]]:
    names = [field.name for field in dataclasses.fields(was)]  # type: ignore[arg-type]
    pairs = [(name, getattr(was, name), getattr(wanted, name)) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What the numbers of a model mean.

    user_ids, item_ids: int64 or str [num_users], [num_items], ascending.
    titles: item number -> name; None = no names.
    histories: what each user had in training, latest first.
    query_texts, item_texts: of a text set, whose queries are the users; else None.
    """

    user_ids: Array
    item_ids: Array
    titles: list[str] | None
    histories: Grouped
    query_texts: list[str] | None = None
    item_texts: list[str] | None = None

    def save(self, path: Path) -> None:
        """Write to .npz, atomically and without pickle."""
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **self._arrays())

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change with anything but a title."""
        found = hashlib.blake2b(digest_size=8)
        for name, array in sorted(self._arrays().items()):
            if not name.startswith("titles"):
                found.update(f"{name} {array.dtype} {array.shape} ".encode())
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def _arrays(self) -> dict[str, Array]:
        arrays = {"offsets": self.histories.offsets, "history": self.histories.items}
        arrays |= _pack("user_ids", self.user_ids) | _pack("item_ids", self.item_ids)
        for name in _TEXTS:
            if (texts := getattr(self, name)) is not None:
                arrays |= _pack_texts(name, texts)
        return arrays

    @classmethod
    def load(cls, path: Path) -> Catalogue:
        """Read what `save` wrote.

        Raises:
            CheckpointError: missing or damaged.
        """
        try:
            # Opened here, as NumPy leaves a file open where it fails.
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as arrays:
                return cls(
                    _unpack("user_ids", arrays),
                    _unpack("item_ids", arrays),
                    histories=Grouped(arrays["offsets"], arrays["history"]),
                    **{
                        name: _texts(name, arrays) if f"{name}_bytes" in arrays else None
                        for name in _TEXTS
                    },
                )
        except UNREADABLE as error:
            raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error

    def require_same(self, other: Catalogue, path: Path) -> None:
        """Check that `other` has the same users, items, histories and texts.

        Raises:
            CheckpointError: it has not.
        """
        for name, mine, theirs in (
            ("users", self.user_ids, other.user_ids),
            ("items", self.item_ids, other.item_ids),
            ("training pairs per user", self.histories.offsets, other.histories.offsets),
            ("training pairs", self.histories.items, other.histories.items),
        ):
            if not np.array_equal(mine, theirs):
                raise CheckpointError(f"{path}: made for other data: the {name} differ")
        if (self.query_texts, self.item_texts) != (other.query_texts, other.item_texts):
            raise CheckpointError(f"{path}: made for other data: the texts differ")

    def user_numbers(self, users: Sequence[object]) -> IntArray:
        """Return the numbers of users, int64 [n]. Raises IdError: not in the training data."""
        return _numbers("user", self.user_ids, users)

    def item_numbers(self, items: Sequence[object]) -> IntArray:
        """Return the numbers of items, int64 [n]. Raises IdError: not in the training data."""
        return _numbers("item", self.item_ids, items)

    def history_of(self, user: int) -> IntArray:
        """Return the item numbers that user number `user` had in training, latest first."""
        start, stop = self.histories.offsets[user : user + 2]
        return self.histories.items[start:stop].astype(np.int64)

    def has_index_ids(self) -> bool:
        """Return whether an index can use the item ids: integers, none the -1 of "no item"."""
        return self.item_ids.dtype.kind == "i" and not (self.item_ids == -1).any()

    def index_ids(self) -> IntArray | None:
        """Return the ids for an index, int64 [num_items]; None = the numbers 0..num_items-1."""
        return self.item_ids.astype(np.int64) if self.has_index_ids() else None

    def index_titles(self) -> list[str] | None:
        """Return the titles for an index. Where it has numbers for ids, own ids lead them."""
        if self.has_index_ids():
            return self.titles
        return lead_titles([str(key) for key in self.item_ids], self.titles)


def _numbers(kind: str, known: Array, wanted: Sequence[object]) -> IntArray:
    """Find ids among those known; text is read as integers where the ids are integers."""
    numbers = {key: number for number, key in enumerate(known.tolist())}
    as_key = _as_integer if known.dtype.kind == "i" else str
    found = [numbers.get(as_key(value)) for value in wanted]
    missing = [repr(value) for value, number in zip(wanted, found, strict=True) if number is None]
    if missing:
        example = known[len(known) // 2]
        raise IdError(
            f"{kind}: {len(missing)} not in the training data: {', '.join(missing[:10])}; "
            f"ids look like {example}"
        )
    return np.array(found, dtype=np.int64)


def _as_integer(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def _pack(name: str, ids: Array) -> dict[str, Array]:
    if ids.dtype.kind == "i":
        return {name: ids}
    return _pack_texts(name, [str(key) for key in ids])


def _unpack(name: str, arrays: np.lib.npyio.NpzFile) -> Array:
    return arrays[name] if name in arrays else np.array(_texts(name, arrays))


def _pack_texts(name: str, texts: list[str]) -> dict[str, Array]:
    """Store texts as one blob: NumPy's own text arrays give each the room of the longest."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    blob = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    return {f"{name}_bytes": blob, f"{name}_offsets": ends}


def _texts(name: str, arrays: np.lib.npyio.NpzFile) -> list[str]:
    blob = arrays[f"{name}_bytes"].tobytes()
    offsets = arrays[f"{name}_offsets"].tolist()
    return [blob[a:b].decode() for a, b in itertools.pairwise(offsets)]
