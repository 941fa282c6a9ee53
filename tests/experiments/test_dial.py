"""The dial: one number, and all that follows from it."""

import pytest

from experiments import dial
from genlm import config
from genlm.errors import UserError
from genlm.model import costs, transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import specs
from genlm.stages import pretrain
from tests.command import ROOT

RECIPE = ROOT / "experiments" / "pretrain_text.py"


def test_the_rule_is_kept_and_larger_is_larger():
    before = None
    for size in (1, 2, 3, 4, 6, 8, 12, 16, 24):
        recipe = config.load(f"{RECIPE}:size={size}")
        model, train = recipe.model, recipe.train
        parameters = dial.num_parameters(model.to_dict(), recipe.tokenizer.vocab_size)
        tokens = train.num_steps * train.batch_size * recipe.data.row_length
        assert model.num_layers == size and model.model_dim == 64 * size
        assert 8 / 3 <= model.mlp_dim / model.model_dim < 8 / 3 + 0.5
        assert tokens == pytest.approx(20 * parameters, rel=0.01)
        assert train.batch_size % train.num_microbatches == 0
        pretrain.read(recipe)
        now = (parameters, tokens, train.batch_size, -recipe.optimizer.learning_rate)
        assert before is None or all(a <= b for a, b in zip(before, now))
        before = now


def test_parameters_are_counted_as_the_model_has_them():
    shape = dial.shape(3, head_dim=32)
    model = TransformerConfig(vocab_size=259, max_length=8, **shape)
    assert dial.num_parameters(shape, 259) == costs.in_products(
        transformer.param_specs(model)
    )
    norms = 7 * model.model_dim
    every = specs.count(transformer.param_specs(model))
    assert costs.in_products(transformer.param_specs(model)) + norms == every


@pytest.mark.parametrize("arg", ["size=0", "size=-1", "size=129", "size=", "size=big"])
def test_no_number_of_layers_is_one_line(arg: str):
    with pytest.raises(UserError, match="N is a number of layers from 1 to 128"):
        config.load(f"{RECIPE}:{arg}")


def test_another_argument_says_what_is_known():
    with pytest.raises(UserError, match=r"it knows: \('smoke', 'size=N'\)"):
        config.load(f"{RECIPE}:sise=2")
