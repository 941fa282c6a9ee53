"""RATINGS: rankings that people give, kept in a database that only grows.

Before: a session of `genlm collect`. After: its exports and preferences. Each ranking
is a transaction of SQLite that is on the disk before the next question is asked, so a
kill at any moment loses nothing that was answered. No row is changed or deleted, and
triggers hold other programs to that; a ranking that is taken back stays, beside a later
row that revokes it.
"""

import contextlib
import datetime
import json
from pathlib import Path
import sqlite3
from typing import Any, Iterator, NamedTuple, Sequence

from genlm.errors import UserError

_APPLICATION = 0x676E6C6D  # "gnlm": tells this database from other programs'
_VERSION = 1
_TABLES = {
    "answers": "model TEXT NOT NULL, settings TEXT NOT NULL, prompt TEXT NOT NULL,"
    " answers TEXT NOT NULL, cut TEXT NOT NULL",
    "rankings": "answers INTEGER NOT NULL REFERENCES answers, annotator TEXT NOT NULL,"
    " ranks TEXT NOT NULL",
    "revocations": "ranking INTEGER NOT NULL REFERENCES rankings",
}
_SECONDS = 30.0  # to wait for another process that writes


class Answered(NamedTuple):
    """A prompt and the answers that a model gave with some settings."""

    number: int
    model: str  # sha256 of the run's outputs
    settings: dict[str, Any]
    prompt: str
    answers: tuple[str, ...]
    cut: tuple[bool, ...]  # whether each ended for want of tokens


class Ranking(NamedTuple):
    """What one person says of the answers: ranks from 1, the best; equal is a tie."""

    number: int
    time: str  # UTC, ISO 8601
    annotator: str
    ranks: tuple[int, ...]
    answered: Answered


class Store:
    """The database of a path, opened or, if it may be, made.

    Raises:
      UserError: it is not there, of another program or version, damaged, or in use for
        too long; of every method that reads or writes too.
    """

    def __init__(self, path: Path, make: bool = False):
        self._path = path
        if not make and not path.exists():
            raise UserError(f"no store {path}; genlm collect makes one")
        with self._said():
            self._base = sqlite3.connect(path, timeout=_SECONDS, isolation_level=None)
            try:
                self._open(make)
            except BaseException:
                self._base.close()
                raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def answered(
        self, model: str, settings: dict[str, Any], prompt: str
    ) -> Answered | None:
        """What is kept of a prompt, a model and its settings."""
        with self._said():
            row = self._base.execute(
                "SELECT id, model, settings, prompt, answers, cut FROM answers"
                " WHERE model = ? AND settings = ? AND prompt = ? ORDER BY id",
                (model, _json(settings), prompt),
            ).fetchone()
        return _answered(*row) if row else None

    def keep(
        self,
        model: str,
        settings: dict[str, Any],
        prompt: str,
        answers: Sequence[str],
        cut: Sequence[bool],
    ) -> Answered:
        """Keep answers, unless another process has kept some of the same: then those,
        so that everybody ranks the same."""
        with self._transaction():
            kept = self.answered(model, settings, prompt)
            if kept:
                return kept
            columns = "model, settings, prompt, answers, cut"
            values = model, _json(settings), prompt, _json(answers), _json(cut)
            number = self._add("answers", columns, *values)
        return Answered(number, model, settings, prompt, tuple(answers), tuple(cut))

    def rank(self, answered: Answered, annotator: str, ranks: Sequence[int]) -> int:
        """Keep a ranking; its number. It takes the place of an earlier one of the same
        answers by the same person."""
        with self._transaction():
            values = answered.number, annotator, _json(ranks)
            return self._add("rankings", "answers, annotator, ranks", *values)

    def revoke(self, number: int) -> None:
        """Take a ranking back."""
        with self._transaction():
            self._add("revocations", "ranking", number)

    def standing(self) -> list[Ranking]:
        """The rankings that were not taken back, in order; of several that one person
        gave of the same answers the last."""
        with self._said():
            rows = self._base.execute(
                "SELECT r.id, r.time, r.annotator, r.ranks,"
                " a.id, a.model, a.settings, a.prompt, a.answers, a.cut"
                " FROM rankings AS r JOIN answers AS a ON a.id = r.answers"
                " WHERE r.id NOT IN (SELECT ranking FROM revocations) ORDER BY r.id"
            ).fetchall()
        found: dict[tuple[str, int], Ranking] = {}
        for number, time, annotator, ranks, *answered in rows:
            ranking = Ranking(
                number, time, annotator, tuple(json.loads(ranks)), _answered(*answered)
            )
            found.pop(key := (annotator, ranking.answered.number), None)
            found[key] = ranking
        return list(found.values())

    def _add(self, table: str, columns: str, *values: object) -> int:
        time = datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds")
        marks = ", ".join("?" * (1 + len(values)))
        done = self._base.execute(
            f"INSERT INTO {table} (time, {columns}) VALUES ({marks})", (time, *values)
        )
        assert done.lastrowid is not None
        return done.lastrowid

    def _open(self, make: bool) -> None:
        """Check that the database is ours before anything is written to it."""
        execute = self._base.execute
        if self._is_empty():
            if not make:
                raise UserError(f"{self._path} is empty; genlm collect fills it")
            with self._transaction():
                if self._is_empty():  # no other process was quicker
                    self._make()
        program = execute("PRAGMA application_id").fetchone()[0]
        version = execute("PRAGMA user_version").fetchone()[0]
        if program != _APPLICATION:
            raise UserError(
                f"{self._path} is a database of another program; name another --store"
            )
        if version != _VERSION:
            raise UserError(
                f"{self._path} is a store of version {version}, and this genlm knows"
                f" version {_VERSION}; name another --store"
            )
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA foreign_keys = ON")

    def _is_empty(self) -> bool:
        count = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        program = self._base.execute("PRAGMA application_id").fetchone()[0]
        return count == 0 and program == 0

    def _make(self) -> None:
        execute = self._base.execute
        for table, columns in _TABLES.items():
            execute(
                f"CREATE TABLE {table}"
                f" (id INTEGER PRIMARY KEY, time TEXT NOT NULL, {columns})"
            )
            refuse = "BEGIN SELECT RAISE(ABORT, 'rows are added, and stay'); END"
            for act in ("UPDATE", "DELETE"):
                execute(
                    f"CREATE TRIGGER {table}_{act} BEFORE {act} ON {table} {refuse}"
                )
            execute(  # REPLACE would delete without the trigger above
                f"CREATE TRIGGER {table}_REPLACE BEFORE INSERT ON {table}"
                f" WHEN NEW.id IN (SELECT id FROM {table}) {refuse}"
            )
        execute(f"PRAGMA application_id = {_APPLICATION}")
        execute(f"PRAGMA user_version = {_VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block, on the disk, or nothing."""
        with self._said():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """What SQLite says, as one line that names the file."""
        try:
            yield
        except sqlite3.Error as error:
            raise UserError(f"--store {self._path}: {error}") from error


def _answered(number: int, model: str, settings: str, *texts: str) -> Answered:
    prompt, answers, cut = texts
    lists = tuple(json.loads(answers)), tuple(json.loads(cut))
    return Answered(number, model, json.loads(settings), prompt, *lists)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
