"""The macro space through the commands: its number of layers, the published recipes, search and final training."""

import json
from pathlib import Path

import numpy as np
import pytest

from enas.space import EnasMacro, Scale, load_genotype

from .conftest import Call

COMMON = ("threads=1", "progress=false", "device=cpu", "epochs=1", "batch_size=256")
SHORT = ("space=enas_macro", "network.filters=4", "updates=1", "samples=2", "candidates=3", "rescored=2", "watched=2")


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """As many images as a few batches need, in CIFAR-10's files."""
    root = tmp_path / "cifar" / "cifar-10-batches-bin"
    root.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{batch}.bin" for batch in range(1, 6)), "test_batch.bin"]):
        rows = np.random.default_rng(number).integers(0, 256, (40, 1 + 3072), dtype=np.uint8)
        rows[:, 0] = np.arange(40) % 10
        rows.tofile(root / name)
    (root / "batches.meta.txt").write_text("".join(f"class{label}\n" for label in range(10)))
    return root.parent


def test_one_key_sets_the_layers_of_the_network_and_of_its_rows(enas: Call) -> None:
    outcome = enas("search", *COMMON, *SHORT, "network.layers=3", "space.skips=sum", "run_dir=run")
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads((outcome.folder / "run" / "genotype.json").read_text())
    assert document["space"] == {"name": "enas_macro", "layers": 3, "skips": "sum", "doubling": True}
    assert (len(document["choices"]), document["cost"]["scale"]["layers"]) == (6, 3)
    assert (outcome.folder / "run" / "cell_network.svg").exists()
    trained = enas("train", *COMMON, "genotype=run/genotype.json", "run_dir=final")
    assert (trained.code, trained.err) == (0, "")
    shared = enas("train", *COMMON, "genotype=run/genotype.json", "init=shared", "run_dir=shared")
    assert (shared.code, shared.err) == (0, "")
    for given, said in (
        ("network.layers=4", "network.layers=4: a row of this space enas_macro has 3 layers; allowed is that number"),
        ("train.auxiliary=0.4", "its network has no auxiliary head, set train.auxiliary=0"),
        ("train.drop_path=0.1", "train.drop_path=0.1: a network of space enas_macro has no paths to drop"),
    ):
        refused = enas("train", *COMMON, "genotype=run/genotype.json", given, "run_dir=bad")
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert said in refused.err
        assert not (outcome.folder / "bad").exists()


def test_without_a_number_there_are_twelve_layers(enas: Call) -> None:
    outcome = enas("search", *COMMON, *SHORT, "strategy=random", "updates=0", "run_dir=run")
    assert (outcome.code, outcome.err) == (0, "")
    _, space = load_genotype(outcome.folder / "run" / "genotype.json")
    assert space.arguments == {"layers": 12, "skips": "concat", "doubling": True}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("network.layers=0", "space.layers=0: allowed are 1 to 48 layers"),
        ("space.layers=4", "network.layers=3: a row of this space enas_macro has 4 layers"),
        ("limit.layers=4", "network.layers=4: a row of this space enas_macro has 3 layers"),
        ("space.skips=max", "space.skips=max: has to be one of concat, sum"),
        ("strategy.skip_target=1", "strategy.skip_target=1: allowed is more than 0, or 0 for none, and less than 1"),
        ("strategy.skip_weight=-1", "strategy.skip_weight=-1: allowed is 0 or more"),
    ],
)
def test_mistakes_are_one_sentence(enas: Call, given: str, said: str) -> None:
    limit = ["limit.params=1000000"] if given.startswith("limit") else []
    outcome = enas("search", *COMMON, *SHORT, "network.layers=3", given, *limit, "run_dir=run")
    assert (outcome.code, outcome.err.count("\n"), outcome.written) == (2, 1, [])
    assert said in outcome.err


def test_the_published_recipes_are_the_authors(enas: Call, cifar: Path) -> None:
    shown = enas("search", "--cfg", "job", "experiment=enas_macro_cifar10", f"data.root={cifar}").out
    for line in ("epochs: 310", "batch_size: 128", "updates: 50", "samples: 20", "  layers: 12", "  filters: 36",
                 "  skip_target: 0.4", "  skip_weight: 0.8", "  learning_rate: 0.001", "  weight_decay: 0.0005",
                 "    operation: 1.5", "    skip: 1.5", "  clip: null", "  dropout: 0.1"):  # fmt: skip
        assert f"{line}\n" in shown
    shown = enas("train", "--cfg", "job", "experiment=enas_macro_cifar10_final", "genotype=x", f"data.root={cifar}").out
    for line in ("epochs: 310", "batch_size: 100", "  filters: 96", "    minimum: 0.001", "  weight_decay: 0.0004",
                 "  dropout: 0.5", "  drop_path: 0.0", "  auxiliary: 0.0", "  merge: true"):  # fmt: skip
        assert f"{line}\n" in shown


def test_the_published_final_training_takes_a_row_of_24_layers(enas: Call, cifar: Path) -> None:
    space = EnasMacro(24)
    row = space.parse(" ".join(str((layer + bit) % 2) for layer in range(24) for bit in range(layer + 1)))
    assert len(row) == 300
    space.genotype(row, Scale(24, 36, 32, 32, 3, 10), {}, {}).write(cifar / "genotype.json")
    given = ("experiment=enas_macro_cifar10_final", f"genotype={cifar / 'genotype.json'}", f"data.root={cifar}")
    outcome = enas("train", *given, *COMMON, "batch_size=100", "network.filters=2", "run_dir=run")
    assert (outcome.code, outcome.err) == (0, "")
    genotype, _ = load_genotype(outcome.folder / "run" / "genotype.json")
    assert genotype.architecture.choices == tuple(row)
    assert genotype.cost["scale"]["layers"] == 24
