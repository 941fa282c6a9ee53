"""EMBED: a run's model and pairs of query and passage -> a model whose vectors say what
belongs together.

Before: pretrain or import_model (config.source), and pairs (data.pairs). After: `genlm
embed`, and indexes. Contrastive (retrieval.contrastive): all parameters are trained, or
a low-rank change (stages.adaptation). embed.json in the run says how it pools.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Callable

import jax
from ml_collections import ConfigDict
import numpy as np

from genlm import config as configs
from genlm import tokenizer as tokenizers
from genlm.data import pairs
from genlm.data.pairs import Pairs, PairsConfig
from genlm.data.plan import Plan
from genlm.errors import UserError
from genlm.interop import run as interop
from genlm.interop import trained
from genlm.interop.adapter import FOLDER as ADAPTER
from genlm.parallel import sharding
from genlm.retrieval import batches, contrastive
from genlm.retrieval import embed as embedding
from genlm.retrieval.batches import Lengths, PairBatches
from genlm.retrieval.embed import Pooling
from genlm.runs import directory, lineage
from genlm.runs.progress import Bars
from genlm.stages import adaptation
from genlm.stages import recipe as recipes
from genlm.stages import training, vectors
from genlm.stages.adaptation import Adaptation
from genlm.stages.recipe import Recipe
from genlm.stages.training import Measure, Task
from genlm.tokenizer.base import Tokenizer

READS = (*recipes.READS, "source", "data", "embed", "lora", "model")
_HARD = "hard_negatives.json"


@dataclasses.dataclass(frozen=True)
class EmbedConfig:
    """sizes: leading numbers of the vectors that each are to do alone, 0 for all;
    hard_negatives: of each query, the nearest wrong passages by the source's vectors;
    lengths in tokens, of the rows of either side.
    """

    pool: str
    sizes: tuple[int, ...]
    temperature: float
    hard_negatives: int
    query_length: int
    passage_length: int

    def __post_init__(self) -> None:
        for length in (self.query_length, self.passage_length):
            Pooling(self.pool, max_length=length)
        if not self.sizes or min(self.sizes) < 0:
            raise UserError("embed.sizes has none, or one below 0; (0,) is all numbers")
        if not self.temperature > 0 or self.hard_negatives < 0:
            raise UserError("embed.temperature is not positive, or hard_negatives < 0")

    @property
    def lengths(self) -> Lengths:
        return Lengths(self.query_length, self.passage_length)

    @property
    def pooling(self) -> Pooling:
        """How the run embeds, once it is trained."""
        return Pooling(
            self.pool, max_length=max(self.query_length, self.passage_length)
        )


def read(config: ConfigDict) -> tuple[Recipe, EmbedConfig, PairsConfig]:
    """The sections of a config; a wrong value is an error now, not after an hour."""
    recipe = recipes.read(config)
    for name, value, only in (
        ("train.num_microbatches", recipe.train.num_microbatches, 1),
        ("parallel.context", recipe.mesh.context, 1),
    ):
        if value != only:
            raise UserError(
                f"{name} is {value}, and embed takes {only} alone: a batch is held"
                " against itself as a whole"
            )
    unknown = ("train.probe_every", "eval.sample_every", "checkpoint.export_every")
    recipes.refuse(recipe, *recipes.OF_NEXT_TOKEN, *unknown)
    adaptation.read(config)
    section = configs.to_dataclass(EmbedConfig, config.embed)
    return recipe, section, configs.to_dataclass(PairsConfig, config.data)


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    recipe, section, data = read(config)
    source = interop.find(Path(config.source))
    tokenizer = tokenizers.load(source / "tokenizer")
    with Bars("bytes") as bars:
        train, valid = pairs.read(data, bars.report)
    print(
        f"{len(train.queries):,} queries of {len(train.passages):,} passages to train"
        f" on; {len(valid.queries):,} of {len(valid.passages):,} held out",
        flush=True,
    )
    inputs = {
        **lineage.of_inputs(pairs.files(data), lineage.read(workdir).get("inputs", {})),
        str(source): {"sha256": lineage.digest(lineage.read(source).get("outputs"))},
    }
    model = adaptation.shape(config, source, tokenizer.vocab_size)
    for size in section.sizes:
        dataclasses.replace(section.pooling, size=size).check(model)

    def make_task(mesh: jax.sharding.Mesh) -> Task:
        recipes.check_division(recipe, model, 1, mesh)
        hard_QH = _hard_negatives(workdir, source, section, train)
        lora = adaptation.read(config)
        adapted = adaptation.of(lora, model, source, workdir, recipe.seed, mesh)

        def reader(plan: Plan) -> PairBatches:
            process, num_processes = sharding.rows_of_process(mesh)
            made = PairBatches(
                train,
                hard_QH,
                tokenizer,
                section.pool,
                section.lengths,
                plan,
                seed=recipe.seed,
                process=process,
                num_processes=num_processes,
            )
            queries, passages = made.num_cut
            print(f"cut to their rows: {queries:,} queries, {passages:,} passages")
            return made

        return _task(recipe, section, tokenizer, adapted, reader, valid, mesh)

    training.run(config, workdir, recipe, inputs, make_task)


def _hard_negatives(
    workdir: Path, source: Path, section: EmbedConfig, train: Pairs
) -> np.ndarray:
    """hard_QH: found once, before the training, and kept beside it."""
    path = workdir / _HARD
    if not section.hard_negatives:
        return np.zeros((len(train.queries), 0), np.int64)
    if not path.exists():
        embedder = vectors.open_embedder(source, **dataclasses.asdict(section.pooling))
        found = batches.mined(
            embedder.vectors(train.queries),
            embedder.vectors(train.passages),
            train.own,
            section.hard_negatives,
        )
        directory.write_atomic(path, json.dumps(found.tolist()) + "\n")
    return np.array(directory.read_json(path))


def _task(
    recipe: Recipe,
    section: EmbedConfig,
    tokenizer: Tokenizer,
    adapted: Adaptation,
    reader: Callable[[Plan], PairBatches],
    valid: Pairs,
    mesh: jax.sharding.Mesh,
) -> Task:
    loss = contrastive.make_contrastive_loss(
        adapted.model, section.temperature, section.sizes
    )
    parts = training.make_parts(adapted.specs, adapted.loss(loss), recipe, mesh)
    validate = _validation(recipe, section, tokenizer, adapted, valid)

    def save(workdir: Path) -> None:
        adapted.save(workdir, tokenizer)
        vectors.save(workdir, section.pooling)

    return Task(
        parts,
        reader,
        (Measure(recipe.evaluation.eval_every, adapted.look(validate)),),
        math.nan,
        save,
        adapted.finish,
        adapted.adopted,
        adapted.frozen,
        made=(trained.NAME, ADAPTER, vectors.NAME, _HARD),
    )


def _validation(
    recipe: Recipe,
    section: EmbedConfig,
    tokenizer: Tokenizer,
    adapted: Adaptation,
    valid: Pairs,
) -> Callable[[Any], dict[str, float]]:
    """A function of a model's parameters: how well held-out queries find their passage
    among all that are held out."""
    rows, number = recipe.evaluation.max_rows, len(valid.queries)
    some = np.arange(number)
    if 0 < rows < number:
        some = np.linspace(0, number - 1, rows).astype(int)
    sides = (
        ([valid.queries[i] for i in some], section.lengths.query),
        (valid.passages, section.lengths.passage),
    )

    def validate(params: Any) -> dict[str, float]:
        queries, passages = (
            embedding.embed(
                params,
                adapted.model,
                tokenizer,
                Pooling(section.pool, max_length=length),
                texts,
                batch_size=recipe.evaluation.batch_size,
            ).vectors
            for texts, length in sides
        )
        own = valid.own[some]
        return contrastive.held_out(queries, passages, own, section.temperature)

    return validate
