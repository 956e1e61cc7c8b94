"""Ways to train a model with its index, by name: what `poeem compare` puts side by side."""

from __future__ import annotations

import dataclasses

from poeem.config import Config
from poeem.errors import ConfigError
from poeem.index.codes import code_bits_for

RECIPES = {
    "paper": "the paper's recipe",
    "ours-product": "torch-poeem, product codes",
    "ours-residual": "torch-poeem, residual codes",
}
"""Name -> label of its rows."""

OURS = "ours"
"""Stands for the one of our two whose codes are the family of the settings."""


def resolved(name: str, config: Config) -> str:
    """Return the recipe that a name means."""
    return f"ours-{config.layer.family}" if name == OURS else name


def recipe_config(name: str, config: Config, num_bytes: int, seed: int) -> Config:
    """Return the settings of a recipe.

    paper: product codes with a rotation, turned by Givens descent; the retrieval loss goes through
        to the vectors alone, codebooks, centroids and rotation learn from the distortion loss;
        nothing pulls vectors to codewords; every item of a batch is quantized, codes move to the
        end, codebooks learn at the towers' rate. Towers, data, steps and schedule are those of
        `config`.
    ours-product, ours-residual: `config`, which without options is the library's defaults, with
        codes of this family. A rotation is learned as told, or else by the family.

    Args:
        name: one of `RECIPES`.
        num_bytes: of an item's codes, as many as have room: of 16 codewords two to a byte, beyond
            256 two bytes each.
        seed: of training and of the layer.

    Raises:
        ConfigError: unknown name, or not a single code has room.

    Source: Zhang et al., arXiv 2105.03933, eq. 6-8; Jiang et al., arXiv 2203.05082.
    """
    if name not in RECIPES:
        raise ConfigError(f"recipe: got {name!r}, wanted one of {', '.join(RECIPES)}")
    family = name.removeprefix("ours-") if name != "paper" else "product"
    bits = code_bits_for(config.layer.num_codewords)
    codes = num_bytes * 8 // bits
    if not codes:
        raise ConfigError(
            f"bytes: got {num_bytes}, wanted at least {bits // 8}, one code of "
            f"{config.layer.num_codewords} codewords"
        )
    layer = dataclasses.replace(config.layer, num_subspaces=codes, seed=seed, family=family)
    train = dataclasses.replace(config.train, seed=seed)
    if name == "paper":
        layer = dataclasses.replace(layer, rotation=True, gradient="vectors", commitment_weight=0.0)
        layer = dataclasses.replace(layer, parallel_weight=0.0)
        train = dataclasses.replace(
            train,
            quantized_share=1.0,
            frozen_epochs=0,
            distillation_share=0.0,
            codebook_learning_rate=train.learning_rate,
        )
        if train.list_choice == "demand":  # they come when codes freeze, which here they never do
            train = dataclasses.replace(train, list_choice="nearest")
    return dataclasses.replace(config, layer=layer, train=train)
