"""`genlm collect`: ask a person which of a model's answers are better, and keep it."""

import argparse
from collections import deque
import hashlib
import json
from pathlib import Path
import sys
from typing import Any, Callable

from genlm.cli import generate, lines, question
from genlm.errors import UserError, require_text

EXAMPLE = "genlm collect --from runs/instruct --prompts prompts.txt --annotator ann"
_MOST = 9  # answers, each of one digit

Writer = Callable[[str], dict[str, bool]]  # the answers to a prompt: is each cut off?


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--from", dest="source", type=Path, help="a run directory, whose answers")
    add("--prompts", help="a file of prompts, one a line")
    add("--answers", type=int, default=3, help=f"answers a prompt, 2 to {_MOST}")
    add(
        "--store",
        type=Path,
        default=Path("ratings.sqlite"),
        help="where rankings are kept; made if need be (ratings.sqlite)",
    )
    add("--annotator", default="annotator1", help="who ranks")
    add("--max-tokens", type=int, default=128, help="most tokens of an answer")
    add("--temperature", type=float, default=0.8, help="above 0: answers are drawn")
    add("--seed", type=int, default=0, help="the same seed, the same answers")
    add("--checkpoint", default="last", help="last, best, a step, or mean:K")
    add(
        "--export",
        type=Path,
        metavar="FILE",
        help="ask nothing; write the store's rankings as JSON lines",
    )


def main(arguments: argparse.Namespace) -> int:
    _check(arguments)
    if arguments.export:
        return _export(arguments)
    prompts = _prompts(arguments.prompts)

    from genlm.data.ratings import Store
    from genlm.interop.run import find
    from genlm.runs import lineage

    source = find(arguments.source)
    outputs = lineage.read(source).get("outputs")
    if not outputs:
        raise UserError(f"{source} is not finished; rankings are of a finished run")
    names = ("answers", "temperature", "max_tokens", "seed", "checkpoint")
    settings = {name: getattr(arguments, name) for name in names}
    with Store(arguments.store, make=True) as store:
        session = _Session(
            store, lineage.digest(outputs), settings, arguments.annotator, prompts
        )
        session.run(_make_writer(source, settings))
        _print_statistics(store)
    return 0


class _Session:
    """The prompts that one person has not ranked, asked one after the other."""

    def __init__(
        self,
        store: Any,
        model: str,
        settings: dict[str, Any],
        annotator: str,
        prompts: list[str],
    ):
        self._store, self._model, self._settings = store, model, settings
        self._annotator, self._prompts = annotator, prompts
        told = {
            ranking.answered.prompt: ranking.number
            for ranking in store.standing()
            if ranking.annotator == annotator
            and ranking.answered.model == model
            and ranking.answered.settings == settings
        }
        self._ranked = {p: number for p, number in told.items() if p in set(prompts)}
        self._left = deque(p for p in prompts if p not in self._ranked)

    def run(self, write: Writer) -> None:
        """Ask until all is ranked, or the person or standard input ends it."""
        before = len(self._ranked)
        skipped = 0
        while self._left:
            prompt = self._left[0]
            answered = self._answered(prompt, write)
            if len(answered.answers) < 2:
                print(f"\nall answers are the same, nothing to rank: {prompt!r}")
                skipped += 1
                self._left.popleft()
                continue
            title = f"{len(self._ranked) + 1} of {len(self._prompts)}"
            said = question.ask(
                title, prompt, answered.answers, answered.cut, self._settings["seed"]
            )
            if said is question.Act.QUIT:
                break
            if said is question.Act.UNDO:
                self._undo()
                continue
            self._left.popleft()
            if said is question.Act.SKIP:
                skipped += 1
            else:
                number = self._store.rank(answered, self._annotator, said)
                self._ranked[prompt] = number
        self._print_end(len(self._ranked) - before, skipped)

    def _answered(self, prompt: str, write: Writer) -> Any:
        """The answers that are kept, so that everybody ranks the same ones; else new
        ones."""
        kept = self._store.answered(self._model, self._settings, prompt)
        if kept:
            return kept
        cut = write(prompt)
        return self._store.keep(
            self._model, self._settings, prompt, list(cut), list(cut.values())
        )

    def _undo(self) -> None:
        """Take the last ranking back, and ask it again."""
        if not self._ranked:
            print("nothing to undo", flush=True)
            return
        prompt, number = self._ranked.popitem()
        self._store.revoke(number)
        self._left.appendleft(prompt)

    def _print_end(self, added: int, skipped: int) -> None:
        now = f"{added:,} now" + (f", {skipped:,} skipped" if skipped else "")
        line = (
            f"{self._annotator} has ranked {len(self._ranked):,} of"
            f" {len(self._prompts):,} prompts ({now})"
        )
        if len(self._ranked) < len(self._prompts):
            line += "; the same command goes on"
        print(f"\n{line}", flush=True)


def _make_writer(source: Path, settings: dict[str, Any]) -> Writer:
    """A function of a prompt: the different answers that the model gives, which depend
    on the settings and the prompt alone. The model is opened when the first is asked
    for."""
    opened: Any = None

    def write(prompt: str) -> dict[str, bool]:
        nonlocal opened
        from genlm.data import chat
        from genlm.inference.sampling import SamplingConfig
        from genlm.interop.run import open_run
        from genlm.parallel import hosts
        from genlm.stages import writing

        if opened is None:
            sampling = SamplingConfig(settings["temperature"])
            hosts.setup()
            opened = open_run(source, settings["checkpoint"]), sampling
        (params, config, tokenizer, _), sampling = opened
        asked = [prompt] * settings["answers"]
        if sys.stderr.isatty():
            print(f"writing {len(asked)} answers ...", file=sys.stderr, flush=True)
        made = writing.make_writer(
            config,
            tokenizer,
            writing.encode(tokenizer, asked, chat.has_template(tokenizer)),
            max_tokens=settings["max_tokens"],
            sampling=sampling,
            seed=settings["seed"],
            places=[_place(prompt, i) for i in range(len(asked))],
        )
        return {text: answer.stop_reason == "length" for text, answer in made(params)}

    return write


def _place(prompt: str, i: int) -> int:
    """Where an answer is drawn from, whatever stands beside its prompt in a file."""
    digest = hashlib.sha256(f"{i} {prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def _check(arguments: argparse.Namespace) -> None:
    """Say what can be said before a model or a store is opened."""
    require_text(str(arguments.store), "--store")
    if arguments.export:
        require_text(str(arguments.export), "--export")
        if arguments.source or arguments.prompts:
            raise UserError("--export asks nothing; leave out --from and --prompts")
        return
    if not arguments.source or not arguments.prompts:
        raise UserError("give --from DIR and --prompts FILE, or --export FILE")
    generate.check(arguments)
    if not 2 <= arguments.answers <= _MOST:
        raise UserError(f"--answers {arguments.answers} is not from 2 to {_MOST}")
    if arguments.temperature == 0:
        raise UserError("--temperature 0 makes all answers the same; take 0.8")
    require_text(arguments.annotator, "--annotator")
    if not arguments.annotator.strip() or not arguments.annotator.isprintable():
        raise UserError(f"--annotator {arguments.annotator!r} is no name")
    if arguments.prompts == "-":
        raise UserError("--prompts - : standard input is for rankings; name a file")


def _prompts(name: str) -> list[str]:
    """The different lines of a file that are not blank."""
    found = [line for line in lines.read(name, "--prompts") if line.strip()]
    if not found:
        raise UserError(f"--prompts: {name} has blank lines only; write one a line")
    return list(dict.fromkeys(found))


def _export(arguments: argparse.Namespace) -> int:
    from genlm.data.ratings import Store
    from genlm.runs import directory

    with Store(arguments.store) as store:
        rankings = store.standing()
        if not rankings:
            raise UserError(f"{arguments.store} holds no ranking yet")
        rows = [
            {
                "prompt": ranking.answered.prompt,
                "answers": ranking.answered.answers,
                "cut": ranking.answered.cut,
                "ranks": ranking.ranks,
                "annotator": ranking.annotator,
                "time": ranking.time,
                "model": ranking.answered.model,
                "settings": ranking.answered.settings,
            }
            for ranking in rankings
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        directory.write_atomic(arguments.export, text)
        print(f"{arguments.export}: {len(rows):,} rankings")
        _print_statistics(store)
    return 0


def _print_statistics(store: Any) -> None:
    from genlm.evaluate import agreement

    given = [
        agreement.Given(ranking.annotator, ranking.answered.number, ranking.ranks)
        for ranking in store.standing()
    ]
    if given:
        print(agreement.describe(given))
