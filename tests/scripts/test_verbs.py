"""The three commands, called in this process: every choice, small runs of each kind, and every mistake in one line."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from PIL import Image

from enas.alone import StandAloneTraining
from enas.api import scale_for
from enas.data import DATA, Benchmark, DataSet, Text
from enas.descent import Descent
from enas.errors import UserError
from enas.estimator import Shared
from enas.estimator.rank import kendall
from enas.final import FinalTraining, evaluate
from enas.language import FinalLanguageTraining
from enas.randomness import seeded
from enas.record import load_checkpoint
from enas.scripts import assembly, compare, configuration, recipes, train, training
from enas.space import EnasMicro, EnasRnn, NasNet, load_genotype
from enas.supernet import Child, Supernet, load_child

from .conftest import VERBS, Call, called, with_kernels

CONF = Path(__file__).parents[2] / "conf"
CPU = torch.device("cpu")
SEARCHING = {**VERBS, "compare": compare}
"""Commands with recipes."""
COMMON = ("threads=1", "progress=false", "device=cpu")
SIZE = ("network.layers=1", "network.filters=4", "space.nodes=1")
SHORT = ("updates=1", "samples=2", "candidates=3", "rescored=2", "watched=2")
SEARCH = (*COMMON, *SIZE, *SHORT, "epochs=1", "batch_size=256")
TRAIN = (*COMMON, "epochs=1", "batch_size=256")
RANK = (*TRAIN, "n=3")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: three classes of colour photographs of two sizes, in files of two kinds."""
    root = tmp_path_factory.mktemp("a user") / "Fotos, ümlaut=1"
    for label, name in enumerate(("cat", "dog", "owl")):
        (root / name).mkdir(parents=True)
        for number in range(40):
            generator = np.random.default_rng(100 * label + number)
            pixels = generator.integers(0, 120, (32 if number % 2 else 40, 32, 3), dtype=np.uint8)
            pixels[..., label] += 120
            Image.fromarray(pixels).save(root / name / f"{number}.{'png' if number % 4 else 'bmp'}")
    return root


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arrays") / "images.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 12, 10), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.arange(90) % 3)
    return path


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory, images: Path, arrays: Path) -> dict[str, Path]:
    """A `data.root` for every data set that needs one."""
    folder = tmp_path_factory.mktemp("cifar")
    files = {
        "cifar-10-batches-bin": ([*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"], 1, 10),
        "cifar-100-binary": (["train.bin", "test.bin"], 2, 100),
    }
    for place, (names, label_bytes, classes) in files.items():
        (folder / place).mkdir()
        for number, name in enumerate(names):
            rows = np.random.default_rng(number).integers(0, 256, (400, label_bytes + 3072), dtype=np.uint8)
            rows[:, label_bytes - 1] = np.arange(400) % classes
            rows.tofile(folder / place / name)
    names = {"batches.meta.txt": 10, "fine_label_names.txt": 100}
    for place, (name, count) in zip(files, names.items(), strict=True):
        (folder / place / name).write_text("".join(f"class{label}\n" for label in range(count)))
    text = tmp_path_factory.mktemp("text")
    for split in ("train", "valid", "test"):
        lines = (" ".join(f"word{(line * place) % 7}" for place in range(1, 9)) for line in range(60))
        (text / f"tiny.{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = np.stack(np.unravel_index(np.arange(5**6), [5] * 6), axis=1).astype(np.uint8)
    table = tmp_path_factory.mktemp("table")
    accuracies = {name: rows.sum(axis=1) / 1.0 for name in ("val12_cifar10", "test200_cifar10")}
    np.savez(table / "nasbench201.npz", ops=rows, **accuracies)  # type: ignore[arg-type]
    cell = {"n_vertices": np.array([2], np.uint8), "adj_bits": np.ones(1, np.uint32)}
    unread = {"ops": np.full((1, 5), 255, np.uint8), "test_acc108": np.full(1, 0.8, np.float32)}
    np.savez(table / "nasbench101.npz", **cell, **unread)  # type: ignore[arg-type]
    known = {"cifar10": folder, "cifar100": folder, "folder": images, "npz": arrays, "text": text}
    return {**known, "nasbench101": table, "nasbench201": table}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a search on digits."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    assert called(VERBS["search"].main, "enas-search", *SEARCH, f"run_dir={folder}") == 0
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, searched: Path) -> Path:
    """The run directory of a final training on digits, with one random network."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    given = (*TRAIN, f"genotype={searched / 'genotype.json'}", "n_random=1", f"run_dir={folder}")
    assert called(VERBS["train"].main, "enas-train", *given) == 0
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# Every choice of every group


def composed(verb: str, *overrides: str) -> DictConfig:
    """The checked configuration of a command line."""
    declared = SEARCHING[verb].VERB
    ConfigStore.instance().store(f"{verb}_schema", declared.schema, provider="enas")
    with initialize_config_module("enas.conf", version_base="1.3", job_name=verb):
        config, choices = configuration._composed(declared, list(overrides))
        assert recipes.check(declared, choices) == []
        return configuration._prepared(declared, config, None)


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def given_for(verb: str, roots: dict[str, Path], data: str = "digits") -> list[str]:
    given = [f"data.root='{roots[data]}'"] if data in roots else []
    return given + {"train": ["genotype=g.json"], "rank": ["search=s"]}.get(verb, [])


@pytest.mark.parametrize("name", options("data"))
def test_every_data_set_can_be_chosen(name: str, roots: dict[str, Path]) -> None:
    for verb in VERBS:
        config = composed(verb, f"data={name}", *given_for(verb, roots, name))
        assert config.data["_target_"] == f"enas.data.{name}"
    data = instantiate(config.data)
    assert isinstance(data, {"text": Text, "nasbench101": Benchmark, "nasbench201": Benchmark}.get(name, DataSet))
    assert data.name.startswith(name)
    assert isinstance(data, Benchmark) or min(len(data.train), len(data.valid), len(data.test)) > 0


def test_no_data_set_lacks_its_choice() -> None:
    assert options("data") == sorted(DATA)


def build_search(config: DictConfig) -> assembly.Parts:
    """What the command builds before it starts."""
    return assembly.assemble(config, instantiate(config.data), CPU)


SHORTER = {
    "scratch": ["estimator.epochs=1"],
    "scratch_language": ["estimator.epochs=1"],
    "successive_halving": ["estimator.epochs=2", "strategy.width=2", "strategy.eta=2", "strategy.rungs=2"],
}
"""What keeps the choices that train from scratch short."""
RELAXED = ("darts", "gdas", "snas", "pc_darts")


def companions(group: str, option: str, roots: dict[str, Path]) -> list[str]:
    """What has to be chosen beside `option`."""
    if option in ("table", "nasbench101"):
        benchmark = option if group == "space" else "nasbench201"
        return ["estimator=table", f"space={benchmark}", f"data={benchmark}", *given_for("search", roots, benchmark)]
    if "language" in option or option == "enas_rnn":
        text = {"space": "enas_rnn", "data": "text", "train": "language", "estimator": "language"} | {group: option}
        others = [f"{name}={choice}" for name, choice in text.items() if name != group]
        return [*others, *given_for("search", roots, "text"), "objective=perplexity", "batch_size=8", *SIZE]
    if group == "strategy" and option in RELAXED:
        return ["space=nasbench201", "network.filters=4"]
    if option == "successive_halving":
        return ["estimator=scratch", *SIZE]
    return [key for key in SIZE if not (group == "space" and key.startswith("space."))]


@pytest.mark.parametrize(
    ("group", "option"),
    [(group, option) for group in ("space", "strategy", "estimator", "train") for option in options(group)],
)
def test_every_choice_of_a_search_can_be_built(group: str, option: str, roots: dict[str, Path], enas: Call) -> None:
    if not recipe_offers("search", group, option):
        assert enas("search", f"{group}={option}", "run_dir=bad").err.startswith(
            f"enas-search: {group}={option}: not for enas-search, which takes "
        )
        return
    config = composed("search", *companions(group, option, roots), f"{group}={option}", *SHORTER.get(option, ()))
    parts = build_search(config)
    built = {"space": parts.space, "strategy": parts.strategy, "train": parts.training, "estimator": parts.estimator}
    made = built[group].estimator if group == "estimator" else built[group]  # type: ignore[attr-defined]
    assert type(made) is get_object(config[group]["_target_"])
    rows = parts.strategy.ask(2, seeded(0, "rows"))
    if option != "nasbench101":  # its table here holds a few rows only
        assert len(parts.estimator.estimate(rows, seeded(0, "images"))) == 2


def recipe_offers(verb: str, group: str, option: str) -> bool:
    with initialize_config_module("enas.conf", version_base="1.3", job_name=verb):
        return recipes.offers(SEARCHING[verb].VERB, group, option)


@pytest.mark.parametrize("verb", ["train", "rank"])
def test_every_choice_of_a_final_training_can_be_built(verb: str, roots: dict[str, Path]) -> None:
    offered = [option for option in options("train") if recipe_offers(verb, "train", option)]
    assert offered == ["final", "language_final"]
    for option, data in zip(offered, ("digits", "text"), strict=True):
        config = composed(verb, f"train={option}", f"data={data}", *given_for(verb, roots, data))
        assert isinstance(build_final(config, 1, 4), FinalTraining if data == "digits" else FinalLanguageTraining)


def build_final(config: DictConfig, layers: int, filters: int) -> StandAloneTraining:
    data = instantiate(config.data)
    space = EnasRnn(8) if isinstance(data, Text) else EnasMicro(5)
    row = space.random(1, seeded(0, "row"))[0].tolist()
    scale = scale_for(data, layers, filters)
    child = Child(space, row, scale, seeded(0, "weights"), training.builds_auxiliary(config))
    return training.prepare(config, child, data)


def recipes_of(verb: str) -> list[str]:
    """The recipes that --help lists for a command."""
    declared = SEARCHING[verb].VERB
    with initialize_config_module("enas.conf", version_base="1.3", job_name=verb):
        return [
            f"{group}={option}"
            for group in declared.recipes
            for option in options(group)
            if recipes.suits(declared, f"{group}/{option}")
        ]


def test_every_recipe_is_for_some_command() -> None:
    listed = {recipe for verb in SEARCHING for recipe in recipes_of(verb)}
    assert listed == {f"{group}={option}" for group in ("experiment", "debug") for option in options(group)}
    assert "experiment=enas_micro_cifar10" in recipes_of("search")
    assert "experiment=enas_micro_cifar10_final" in recipes_of("train")
    assert "experiment=enas_micro_cifar10_final" not in recipes_of("search")


RECIPE_DATA = {
    "cifar100": "cifar100",
    "cifar10": "cifar10",
    "imagenet": "folder",
    "ptb": "text",
    "text": "text",
    "demo": "digits",
}
"""What a recipe that has the word in its name is for."""


@pytest.mark.parametrize(("verb", "recipe"), [(verb, recipe) for verb in SEARCHING for recipe in recipes_of(verb)])
def test_every_recipe_can_be_built(verb: str, recipe: str, roots: dict[str, Path]) -> None:
    default = "nasbench201" if verb == "compare" else "digits"
    data = next((known for word, known in RECIPE_DATA.items() if word in recipe), default)
    # The whole network of a published recipe takes seconds to make; its shape is the recipe's own in all but size.
    size = [] if verb == "rank" else ["network.filters=4"]
    size += ["data.size=48"] if data == "folder" else []
    config = composed(verb, recipe, *given_for(verb, roots, data), *size)
    if verb in ("search", "compare"):
        assert build_search(config).plan.epochs == config.epochs
    else:
        layers = config.network.layers or 3 if verb == "train" else 3
        assert isinstance(build_final(config, layers, 4), StandAloneTraining)


def test_the_published_search_is_the_authors(roots: dict[str, Path]) -> None:
    config = composed("search", "experiment=enas_micro_cifar10", f"data.root={roots['cifar10']}")
    assert (config.network.layers, config.network.filters, config.batch_size, config.epochs) == (6, 20, 160, 150)
    assert (config.updates * config.samples, config.space.output) == (300, "concat")
    assert (config.train.rate.maximum, config.train.rate.minimum, config.train.rate.period) == (0.05, 0.0005, 10)


def test_the_published_network_for_imagenet_has_its_stem(roots: dict[str, Path]) -> None:
    config = composed("train", "experiment=nasnet_imagenet_mobile_final", *given_for("train", roots, "folder"))
    assert dict(config.network) == {"layers": 12, "filters": 44, "stacking": "mobile"}
    assert (config.data.size, config.train.drop_path, config.train.auxiliary) == (224, 0.0, 0.4)


@pytest.mark.parametrize("verb", VERBS)
def test_a_smoke_run_of_every_command(verb: str, enas: Call, searched: Path) -> None:
    own = {
        "search": ["candidates=3", "rescored=2", "updates=1", "space.nodes=2"],
        "train": [f"genotype={searched / 'genotype.json'}"],
        "rank": [f"search={searched}", "n=3"],
    }[verb]
    smoke = "debug=smoke" if "debug=smoke" in recipes_of(verb) else "epochs=1"
    outcome = enas(verb, smoke, *COMMON, "batch_size=256", *own, "run_dir=run")
    assert (outcome.code, outcome.err) == (0, "")
    assert read(outcome.folder / "run" / "run.json")["finished"]


# Runs


def test_a_search_on_digits(searched: Path) -> None:
    content = read(searched / "run.json")
    assert content["finished"]
    assert content["random_baseline"]["candidates"] == content["search"]["candidates"] == 3
    given = with_kernels("enas-search", *SEARCH, f"run_dir='{searched}'")
    assert content["overrides"] == given[1:]
    assert content["command"].startswith("enas-search threads=1 ")
    assert content["machine"]["threads"] == 1
    genotype, space = load_genotype(searched / "genotype.json")
    assert space.arguments["nodes"] == 1
    assert genotype.cost["scale"]["layers"] == 1
    child = load_child(searched / "child.pt", CPU)
    assert child.row == genotype.architecture.choices


def test_what_a_search_prints(enas: Call) -> None:
    outcome = enas("search", *SEARCH, "run_dir=run")
    assert outcome.err == ""
    genotype, space = load_genotype(outcome.folder / "run" / "genotype.json")
    text = space.text(genotype.architecture.choices)
    title = "minus loss on validation images, with shared weights:"
    assert outcome.out.startswith(f"{text}\n{title}\n  search: 3 candidates")
    assert "its random baseline: best " in outcome.out
    assert outcome.out.endswith(f"enas-train genotype={outcome.folder / 'run' / 'genotype.json'}\n")


def test_a_child_has_the_accuracy_of_its_row(searched: Path) -> None:
    """The saved child, by its own statistics over training images, is the estimator's under the same policy."""
    state = load_checkpoint(searched / "checkpoint.pt")
    child = load_child(searched / "child.pt", CPU)
    data = instantiate(composed("search").data)
    supernet = Supernet(child.space, child.scale, seeded(0, "any"))
    supernet.load_state_dict(state["training"]["supernet"])
    own = evaluate(child, data, data.valid, 256)
    shared = Shared(supernet, data, batch_size=256, statistics="reestimated").estimate(torch.tensor([child.row]))
    assert own["accuracy"] == pytest.approx(float(shared.metrics["accuracy"]), abs=0.01)
    assert own["loss"] == pytest.approx(float(shared.metrics["loss"]), rel=0.01)


def test_the_found_and_a_random_network_are_trained(trained: Path, searched: Path) -> None:
    results = read(trained / "run.json")["results"]
    assert list(results) == ["found", "random_1"]
    found, random = (load_genotype(folder / "genotype.json")[0] for folder in (trained, trained / "random_1"))
    assert found.architecture == load_genotype(searched / "genotype.json")[0].architecture
    assert random.architecture.choices != found.architecture.choices
    for name, folder in (("found", trained), ("random_1", trained / "random_1")):
        assert read(folder / "result.json") == results[name]
        child = load_child(folder / "best.pt", CPU)
        assert results[name]["params"] == sum(parameter.numel() for parameter in child.parameters())
        data = instantiate(composed("search").data)
        assert evaluate(child, data, data.test, 256)["accuracy"] == results[name]["test"]["accuracy"]


def test_a_training_prints_a_table(enas: Call, searched: Path) -> None:
    outcome = enas("train", *TRAIN, f"genotype={searched / 'genotype.json'}", "n_random=1", "run_dir=run")
    assert (outcome.code, outcome.err) == (0, "")
    [title, found, random, last] = outcome.out.splitlines()
    assert title.split() == ["network", "parameters", "test", "accuracy", "test", "loss"]
    assert (found.split()[0], random.split()[0]) == ("found", "random_1")
    assert last == f"digits, 359 test images; written to {outcome.folder / 'run'}"


def test_a_supernet_is_ranked(enas: Call, searched: Path) -> None:
    outcome = enas("rank", *RANK, f"search={searched}", "run_dir=run")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Kendall tau " in outcome.out
    assert "n = 3" in outcome.out
    content = read(outcome.folder / "run" / "run.json")
    assert content["finished"]
    assert len(content["children"]) == 3
    assert (outcome.folder / "run" / "rank.svg").exists()
    # The cheap score is that of the search's own weights, on all validation images.
    state = load_checkpoint(searched / "checkpoint.pt")
    _, space = load_genotype(searched / "genotype.json")
    data = instantiate(composed("search").data)
    supernet = Supernet(space, scale_for(data, 1, 4), seeded(0, "any"))
    supernet.load_state_dict(state["training"]["supernet"])
    rows = torch.tensor([entry["choices"] for entry in content["children"]])
    expected = Shared(supernet, data, batch_size=256).estimate(rows)
    assert [entry["value"] for entry in content["children"]] == expected.value.tolist()
    assert [entry["images"] for entry in content["children"]] == [len(data.valid)] * 3
    for place, entry in enumerate(content["children"], 1):
        alone = outcome.folder / "run" / f"child_{place}"
        assert entry["alone"] == read(alone / "result.json")
        assert load_child(alone / "best.pt", CPU).row == tuple(entry["choices"])


def test_a_supernet_is_ranked_against_a_table(enas: Call, tmp_path: Path) -> None:
    rows = np.stack(np.unravel_index(np.arange(5**6), [5] * 6), axis=1).astype(np.uint8)
    np.savez(tmp_path / "table.npz", ops=rows, test200_cifar10=rows.sum(axis=1) / 1.0, test12_in16=50.0 - rows[:, 0])
    size = ("space=nasbench201", "network.layers=1", "network.filters=4", "children=uniform", "updates=0")
    short = ("candidates=3", "rescored=2", "watched=2", "epochs=1", "batch_size=256")
    assert enas("search", *COMMON, *size, *short, "run_dir=s").code == 0
    given = (*COMMON, "batch_size=256", "n=20", "search=s", "table=table.npz")
    outcome = enas("rank", *given, "column=test12_in16", "run_dir=run")
    assert (outcome.code, outcome.err) == (0, "")
    assert "n = 20" in outcome.out
    content = read(outcome.folder / "run" / "run.json")
    alone = [entry["alone"]["test"]["accuracy"] for entry in content["children"]]
    assert alone == [(50 - entry["choices"][0]) / 100 for entry in content["children"]]
    assert content["kendall"]["value"] == kendall([entry["value"] for entry in content["children"]], alone).value
    assert not (outcome.folder / "run" / "child_1").exists()
    refused = enas("rank", *given, "column=test300_in16", "run_dir=other")
    assert_refused(refused, "rank", "table.npz has test200_cifar10, test12_in16")
    assert not (outcome.folder / "other").exists()


def test_a_folder_of_images_runs_through_all_three(enas: Call, images: Path) -> None:
    data = ("data=folder", f"data.root={images}")
    searching = enas("search", *data, *SEARCH, "run_dir=s")
    assert (searching.code, searching.err) == (0, "")
    for outcome in (
        enas("train", *data, *TRAIN, "genotype=s/genotype.json", "run_dir=t"),
        enas("rank", *data, *RANK, "search=s", "run_dir=r"),
    ):
        assert (outcome.code, outcome.err) == (0, "")
    scale = read(searching.folder / "s" / "genotype.json")["cost"]["scale"]
    assert (scale["height"], scale["width"], scale["channels"], scale["classes"]) == (32, 32, 3, 3)


def test_arrays_of_another_shape(enas: Call, arrays: Path) -> None:
    outcome = enas("search", "data=npz", f"data.root={arrays}", *SEARCH, "run_dir=s")
    assert (outcome.code, outcome.err) == (0, "")
    scale = read(outcome.folder / "s" / "genotype.json")["cost"]["scale"]
    assert (scale["height"], scale["width"], scale["channels"], scale["classes"]) == (12, 10, 1, 3)


def test_awkward_paths_in_every_path_key(
    enas: Call, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "Ünser Heim"))
    (tmp_path / "Ünser Heim").mkdir()
    (tmp_path / "Ünser Heim" / "Bilder, 1=a").symlink_to(images)
    data = ("data=folder", "data.root=~/Bilder, 1=a")
    assert enas("search", *data, *SEARCH, "run_dir=~/süche (1)").err == ""
    assert enas("train", *data, *TRAIN, "genotype=~/süche (1)/genotype.json", "run_dir=~/it's").err == ""
    assert enas("search", "resume=~/süche (1)", "epochs=2").err == ""
    assert read(tmp_path / "Ünser Heim" / "it's" / "run.json")["finished"]
    assert len((tmp_path / "Ünser Heim" / "süche (1)" / "metrics.jsonl").read_text().splitlines()) == 3


def test_shared_weights_are_where_training_starts(enas: Call, searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, float]] = []

    def stand_in(self: FinalTraining, *_: Any) -> dict[str, Any]:
        started.append(evaluate(self.child, self.data, self.data.valid, 256))
        return {"params": 1, "test": {"accuracy": 0.0, "loss": 0.0}}

    monkeypatch.setattr(FinalTraining, "run", stand_in)
    genotype = f"genotype={searched / 'genotype.json'}"
    for init in ("shared", "scratch"):
        assert enas("train", *TRAIN, genotype, f"init={init}", f"run_dir={init}").err == ""
    data = instantiate(composed("search").data)
    inherited = evaluate(load_child(searched / "child.pt", CPU), data, data.valid, 256)
    assert started[0] == inherited
    assert started[1] != inherited


def test_limits_count_at_their_own_size(enas: Call) -> None:
    plain = ("search", *SEARCH, "limit.params=3000")
    assert enas(*plain, "run_dir=small").code == 0
    params = read(enas(*plain, "run_dir=again").folder / "again" / "genotype.json")["cost"]["params"]
    assert params <= 3000
    larger = enas(*plain, "limit.filters=32", "run_dir=large")
    assert larger.code == 2
    assert "limit.params and limit.macs leave too little" in larger.err


def test_a_mapping_is_given_on_the_command_line_and_kept_by_a_resumed_run(enas: Call) -> None:
    given = ("strategy.temperature={operation:5.0}", "strategy.bound.skip=1.5")
    given += ("strategy.prior={normal/*/operation:[1,0,0,0,0]}",)
    outcome = enas("search", *SEARCH, *given, "run_dir=run")
    assert (outcome.code, outcome.err) == (0, "")
    run = read(outcome.folder / "run" / "run.json")
    strategy = run["config"]["strategy"]
    assert strategy["temperature"] == {"operation": 5.0}
    assert strategy["bound"].keys() == {"operation", "source", "skip"}
    assert strategy["prior"] == {"normal/*/operation": [1, 0, 0, 0, 0]}
    assert set(given) <= set(run["overrides"])
    assert enas("search", "resume=run", "epochs=2").err == ""
    changed = enas("search", "resume=run", "strategy.temperature.operation=4.0")
    assert changed.err.startswith("enas-search: strategy.temperature.operation: 4.0 here and 5.0 in ")


# Resume


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_longer_search_is_the_search_that_was_longer_from_the_start(enas: Call, searched: Path) -> None:
    shutil.copytree(searched, "run")
    assert enas("search", "resume=run", "epochs=2").err == ""
    assert enas("search", *SEARCH, "epochs=2", "run_dir=whole").err == ""
    one, other = Path.cwd() / "run", Path.cwd() / "whole"
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for key in ("choices", "estimate"):
        assert read(one / "genotype.json")[key] == read(other / "genotype.json")[key]


def test_a_finished_training_is_resumed_without_another_test(
    enas: Call, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained, Path.cwd() / "run")
    shutil.rmtree(Path.cwd() / "run" / "random_1")  # as if killed before it
    evaluated = []
    measure = evaluate

    def spy(child: Child, data: DataSet, split: Any, batch_size: int) -> dict[str, float]:
        evaluated.append(len(split))
        return measure(child, data, split, batch_size)

    monkeypatch.setattr("enas.final.evaluate", spy)
    outcome = enas("train", "resume=run")
    assert (outcome.code, outcome.err) == (0, "")
    assert evaluated == [288, 359]  # the random network's alone
    found = read(Path.cwd() / "run" / "run.json")["results"]
    expected = read(trained / "run.json")["results"]
    for name in expected:
        assert {**found[name], "seconds": 0} == {**expected[name], "seconds": 0}


@pytest.mark.parametrize(
    ("verb", "given", "beginning"),
    [
        ("search", ["seed=1"], "seed: 1 here and 0 in "),
        ("search", ["strategy=random"], "strategy: enas.strategy.Random here and enas.strategy.Reinforce in "),
        ("search", ["strategy.hidden=8"], "strategy.hidden: 8 here and 64 in "),
        ("search", ["train.rate.maximum=0.1"], "train.rate.maximum: 0.1 here and 0.05 in "),
        ("search", ["data.crop=0"], "data.crop: 0 here and 1 in "),
        ("search", ["threads=2"], "threads: 2 here and 1 in "),
        ("search", ["network.layers=2"], "network.layers: 2 here and 1 in "),
        ("search", ["epochs=0"], "epochs=0: a resumed run may only raise epochs, which is 1 in "),
        ("search", ["run_dir=x"], "run_dir: a resumed run stays in its own folder"),
        ("search", ["-m", "epochs=2,3"], "resume: one run is resumed at a time, without -m"),
        ("train", ["epochs=2"], "epochs: 2 here and 1 in "),
        ("train", ["n_random=2"], "n_random: 2 here and 1 in "),
        ("train", ["init=shared"], "init: shared here and scratch in "),
        ("train", ["train.dropout=0.3"], "train.dropout: 0.3 here and 0.1 in "),
    ],
)
def test_a_resumed_run_refuses_changes_by_name(
    enas: Call, searched: Path, trained: Path, verb: str, given: list[str], beginning: str
) -> None:
    folder = {"search": searched, "train": trained}[verb]
    before = files(folder)
    outcome = enas(verb, f"resume={folder}", *given)
    assert outcome.code == 2
    assert outcome.err.startswith(f"enas-{verb}: {beginning}")
    assert outcome.err.count("\n") == 1
    assert outcome.written == []
    assert files(folder) == before


def test_a_checkpoint_that_cannot_be_read_is_refused_and_nothing_is_touched(enas: Call, searched: Path) -> None:
    run = Path.cwd() / "run"
    shutil.copytree(searched, run)
    content = torch.load(run / "checkpoint.pt", weights_only=True)
    whole = (run / "checkpoint.pt").read_bytes()

    def foreign() -> None:
        torch.save({"weights": content["training"]}, run / "checkpoint.pt")

    def other_version() -> None:
        torch.save({**content, "version": 2}, run / "checkpoint.pt")

    def of_a_training() -> None:
        kept = {name: content[name] for name in ("format", "version", "next_step", "metrics_lines")}
        torch.save({**kept, "child": {}}, run / "checkpoint.pt")

    def truncated() -> None:
        (run / "checkpoint.pt").write_bytes(whole[:-100])

    def cut_log() -> None:
        (run / "checkpoint.pt").write_bytes(whole)
        (run / "metrics.jsonl").write_text("")

    for damage, reason in (
        (other_version, "is of version 2, but this enas reads version 1"),
        (foreign, "is no checkpoint of enas"),
        (of_a_training, "its checkpoint.pt is another command's, it holds no training"),
        (truncated, "is damaged, or is no checkpoint"),
        (cut_log, "has 0 lines but the checkpoint was written after 1"),
    ):
        damage()
        before = files(run)
        outcome = enas("search", "resume=run", "epochs=2")
        assert outcome.code == 2
        assert reason in outcome.err
        assert outcome.err.count("\n") == 1
        assert files(run) == before


# Mistakes


def assert_refused(outcome: Any, verb: str, expected: str) -> None:
    assert outcome.code == 2
    assert outcome.err.startswith(f"enas-{verb}: ")
    assert outcome.err.count("\n") == 1
    assert expected in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("epoch=3", "epoch: enas-search has no such key or group; did you mean epochs?"),
        ("stratgy=random", "stratgy: enas-search has no such key or group; did you mean strategy?"),
        ("strategy=reinforced", "strategy=reinforced: there is no such choice; did you mean reinforce?"),
        ("strategy.hiden=3", "strategy.hiden: strategy has no key hiden; did you mean hidden?"),
        ("train=final", "train=final: not for enas-search, which takes language, shared"),
        ("experiment=enas_micro_cifar10", "data.root: has to be given, as in data.root=PATH"),
        ("experiment=demo_final", "not for enas-search"),
        ("epochs=0", "epochs=0: allowed is 1 or more"),
        ("epochs=many", "epochs=many: "),
        ("seed=1,2", "several values for one key need -m"),
        ("seed=-1", "seed=-1: allowed is a whole number from 0"),
        ("seed=99999999999999999999", "seed=99999999999999999999: allowed is a whole number from 0"),
        ("children=me", "children=me: allowed are strategy, uniform and uniform_then_strategy"),
        ("draw_every=0", "draw_every=0: allowed is 1 or more"),
        ("checkpoint_every=0", "checkpoint_every=0: allowed is 1 or more"),
        ("objective=speed", "objective=speed: Invalid value 'speed', expected one of [accuracy, loss, perplexity]"),
        ("limit.params=1", "limit.params and limit.macs leave too little"),
        ("limit.layers=0", "network.layers=0: allowed is 1 or more"),
        ("network.layers=0", "network.layers=0: allowed is 1 or more"),
        ("space.nodes=8", "space.nodes=8: allowed are 1 to 7 nodes"),
        ("strategy.hidden=0", "strategy.hidden=0: allowed is 1 or more"),
        ("strategy.betas=[0]", "strategy.betas=[0]: allowed are two numbers"),
        ("strategy.bound={operation:0}", "strategy.bound.operation=0: allowed is a number above 0"),
        ("strategy.temperature.shape=1", "strategy.temperature.shape=1: allowed is a number above 0 for operation"),
        ("strategy.prior={x:[1]}", "strategy.prior.x: no decision of space enas_micro has such a name"),
        ("estimator.statistics=mean", "estimator.statistics=mean: has to be one of batch, reestimated"),
        ("train.rate.maximum=-1", "train.rate.minimum=0.0005: allowed is 0 to train.rate.maximum=-1"),
        ("train.momentum=0", "train.nesterov=true: needs train.momentum above 0"),
        ("train.clip=0", "train.clip=0: allowed is more than 0, or null"),
        ("train.nesterov=1", "train.nesterov=1: has to be true or false"),
        ("data=folder", "data.root: has to be given, as in data.root=PATH"),
        ("data=folder data.root=nowhere", "nowhere"),
        ("data=cifar10 data.root=.", "no cifar10 data there"),
        ("data.valid=0", "data.valid=0: a search needs validation images"),
        ("data.valid=2", "data.valid=2: allowed is a fraction between 0 and 1"),
        ("device=tpu", "device=tpu: allowed are auto, cpu, cuda and cuda:N"),
        ("device=cpu:1", "device=cpu:1: allowed are auto, cpu, cuda and cuda:N"),
        ("device=cuda:99", "device=cuda:99: this machine has "),
        ("kernels=fast", "kernels=fast: Invalid value 'fast', expected one of [auto, native, reference]"),
        ("precision=fp16", "precision=fp16: Invalid value 'fp16', expected one of [fp32, tf32, bf16]"),
        ("threads=0", "threads=0: allowed is 1 or more, or null"),
        ("resume=nowhere", "there is no run to resume in this folder"),
        ("run_dir=", "run_dir=: a path has to follow the equals sign"),
        ("+extra=1", "+extra=1: keys are neither added nor removed"),
        ("--fast", "--help lists what can be given"),
    ],
)
def test_a_mistake_in_a_search_is_one_line_and_leaves_nothing(enas: Call, given: str, expected: str) -> None:
    run_dir = [] if given.startswith(("resume", "run_dir")) else ["run_dir=run"]
    outcome = enas("search", *SEARCH, *run_dir, *given.split())
    assert_refused(outcome, "search", expected)
    assert outcome.written == []


@pytest.mark.parametrize("verb", VERBS)
def test_an_existing_run_directory_is_refused(enas: Call, verb: str, searched: Path, trained: Path) -> None:
    given = {
        "search": SEARCH,
        "train": (*TRAIN, f"genotype={searched / 'genotype.json'}"),
        "rank": (*RANK, f"search={searched}"),
    }[verb]
    for folder in (searched, trained):
        before = files(folder)
        outcome = enas(verb, *given, f"run_dir={folder}")
        assert_refused(outcome, verb, f"run_dir={folder} already holds files and is never overwritten")
        assert files(folder) == before
    Path("notes.txt").write_text("mine")
    assert_refused(enas(verb, *given, "run_dir=notes.txt"), verb, "run_dir=")
    assert Path("notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("genotype=nowhere.json", "no such file"),
        ("epochs=0", "epochs=0: allowed is 1 or more"),
        ("batch_size=1", "batch_size=1: allowed is 2 or more"),
        ("checkpoint_every=0", "checkpoint_every=0: allowed is 1 or more"),
        ("n_random=-1", "n_random=-1: allowed is 0 or more"),
        ("init=shared n_random=1", "n_random=1: random cells have no inherited weights"),
        ("init=shared network.filters=8", "init=shared: "),
        ("init=magic", "init=magic: Invalid value 'magic', expected one of [scratch, shared]"),
        ("network.layers=0", "network.layers=0: allowed is 1 or more"),
        ("network.stacking=mobile", "network.stacking=mobile: space enas_micro stacks its cells in one way"),
        ("train=shared", "train=shared: not for enas-train, which takes final, language_final"),
        ("train.dropout=1", "train.dropout=1: allowed is 0 to less than 1"),
        ("train.auxiliary=-1", "train.auxiliary=-1: allowed is 0"),
        ("train.clip=-1", "train.clip=-1: allowed is more than 0"),
        ("device=tpu", "device=tpu: allowed are auto, cpu, cuda and cuda:N"),
        ("kernels=fast", "kernels=fast: Invalid value 'fast', expected one of [auto, native, reference]"),
        ("precision=fp16", "precision=fp16: Invalid value 'fp16', expected one of [fp32, tf32, bf16]"),
        ("space.nodes=2", "space.nodes: enas-train has no such key or group; "),
        ("experiment=demo", "enas-train"),
    ],
)
def test_a_mistake_in_a_training_is_one_line_and_leaves_nothing(
    enas: Call, searched: Path, given: str, expected: str
) -> None:
    outcome = enas("train", *TRAIN, f"genotype={searched / 'genotype.json'}", "run_dir=run", *given.split())
    assert_refused(outcome, "train", expected)
    assert outcome.written == []


def test_a_cell_may_be_stacked_for_other_images_than_those_of_its_search() -> None:
    space = NasNet(2, output="nodes")
    assert train.restack(space, None) is space
    stacked = train.restack(space, "mobile")
    assert stacked.arguments == {**space.arguments, "stacking": "mobile"}
    with pytest.raises(UserError, match="stacking=imagenet: allowed are cifar, mobile, large"):
        train.restack(space, "imagenet")


def test_a_training_needs_a_genotype(enas: Call) -> None:
    assert_refused(enas("train", *TRAIN), "train", "genotype: has to be given, as in genotype=PATH")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": 2}, "schema version 2 is not supported, only version 1 is"),
        ({"format": "other"}, "not a genotype file"),
        ({"space": {"name": "unheard"}}, "space 'unheard' is unknown, allowed are enas_micro"),
        ({"space": {"name": "enas_micro", "nodes": 9}}, "space.nodes=9: allowed are 1 to 7 nodes"),
        ({"space": {"name": "enas_micro", "size": 9}}, "space enas_micro has no argument 'size'"),
        ({"space": {"name": "enas_micro", "nodes": 2, "output": "project"}}, "decisions"),
        ({"choices": [0]}, "decisions, the row has 1 integers"),
        ({"choices": [1, 4, 1, 4, 1, 4, 1, 4]}, "'choices' and 'graph' disagree at graph.normal.nodes[0].left"),
        ({"choices": [0.5] * 8}, "'choices' must hold integers only"),
        ({"graph": {}}, "'choices' and 'graph' disagree at graph"),
        ({"graph": 3}, "entry 'graph' is missing or not a dict"),
        ({"cost": {}}, "cost.scale has to hold whole numbers above 0"),
        ({"cost": {"scale": {"layers": 1}}}, "cost.scale has to hold whole numbers above 0"),
        ({"cost": {"scale": None}}, "cost.scale has to hold whole numbers above 0"),
        (None, "not valid JSON, the file is truncated or altered"),
    ],
    ids=str,
)
def test_a_genotype_that_is_not_right_is_refused(
    enas: Call, searched: Path, change: dict[str, Any] | None, expected: str
) -> None:
    text = (searched / "genotype.json").read_text()
    altered = text[: len(text) // 2] if change is None else json.dumps({**json.loads(text), **change})
    Path("genotype.json").write_text(altered)
    outcome = enas("train", *TRAIN, "genotype=genotype.json", "run_dir=run")
    assert_refused(outcome, "train", expected)
    assert outcome.err.startswith(f"enas-train: genotype={outcome.folder / 'genotype.json'}: ")
    assert outcome.written == ["genotype.json"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_inherited_weights_that_cannot_be_read(enas: Call, searched: Path, damage: str) -> None:
    shutil.copy(searched / "genotype.json", Path.cwd())
    if damage == "truncated":
        Path("child.pt").write_bytes((searched / "child.pt").read_bytes()[:500])
    elif damage == "foreign":
        shutil.copy(searched / "checkpoint.pt", "child.pt")
    before = files(Path.cwd())
    outcome = enas("train", *TRAIN, "genotype=genotype.json", "init=shared", "run_dir=run")
    expected = {"missing": "no such file", "truncated": "cannot be read", "foreign": "not a child of version 1"}
    assert_refused(outcome, "train", expected[damage])
    assert files(Path.cwd()) == before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("n=2", "n=2: allowed is 3 or more"),
        ("search=nowhere", "no such file"),
        ("epochs=0", "epochs=0: allowed is 1 or more"),
        ("train.dropout=1", "train.dropout=1: allowed is 0 to less than 1"),
        ("train=shared", "train=shared: not for enas-rank, which takes final"),
        ("estimator=table", "estimator=table: not for enas-rank, which takes language, shared"),
        ("data.valid=0", "data.valid=0: a search needs validation images"),
        ("resume=x", "resume: enas-rank has no such key or group"),
        ("estimator.children=0", "estimator.children=0: allowed is 1 or more"),
        ("kernels=fast", "kernels=fast: Invalid value 'fast', expected one of [auto, native, reference]"),
        ("precision=fp16", "precision=fp16: Invalid value 'fp16', expected one of [fp32, tf32, bf16]"),
    ],
)
def test_a_mistake_in_a_ranking_is_one_line_and_leaves_nothing(
    enas: Call, searched: Path, given: str, expected: str
) -> None:
    outcome = enas("rank", *RANK, f"search={searched}", "run_dir=run", *given.split())
    assert_refused(outcome, "rank", expected)
    assert outcome.written == []


def test_a_ranking_needs_the_search_and_its_kind_of_data(
    enas: Call, searched: Path, trained: Path, arrays: Path
) -> None:
    outcome = enas("rank", *RANK, f"search={searched}", "data=npz", f"data.root={arrays}", "run_dir=run")
    assert_refused(outcome, "rank", f"data: the search in {searched} had images and classes of another shape")
    outcome = enas("rank", *RANK, f"search={trained}", "run_dir=run")
    assert_refused(outcome, "rank", f"search={trained}: no search with shared weights left its checkpoint there")
    assert outcome.written == []


@pytest.mark.parametrize("verb", ["search", "train"])
def test_a_loss_that_is_not_finite_is_one_line(enas: Call, searched: Path, verb: str) -> None:
    given = {"search": SEARCH, "train": (*TRAIN, f"genotype={searched / 'genotype.json'}")}[verb]
    outcome = enas(verb, *given, "train.rate.maximum=1e30", "train.clip=null", "run_dir=run")
    assert_refused(outcome, verb, "the loss became NaN or infinite in epoch 1; the last checkpoint is good")
    assert not (outcome.folder / "run" / "genotype.json").exists()
    assert not list(outcome.folder.rglob("*.partial"))


@pytest.mark.parametrize("verb", ["search", "train"])
def test_ctrl_c_ends_with_130_and_one_line(
    enas: Call, searched: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    move = Descent.move
    steps = []

    def interrupted(self: Descent, loss: torch.Tensor, rate: float | torch.Tensor) -> torch.Tensor:
        steps.append(rate)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGINT)
        return move(self, loss, rate)

    given = {"search": SEARCH, "train": (*TRAIN, f"genotype={searched / 'genotype.json'}")}[verb]
    with monkeypatch.context() as patch:
        patch.setattr(Descent, "move", interrupted)
        outcome = enas(verb, *given, "run_dir=run")
    run = outcome.folder / "run"
    assert (outcome.code, outcome.err, outcome.out.count("\n")) == (130, "", 1)
    assert outcome.out.startswith("stopped; ")
    assert outcome.out.endswith(f"go on with: enas-{verb} resume={run}\n")
    assert load_checkpoint(run / "checkpoint.pt")["trained"] == 3
    assert (run / "genotype.json").exists() == (verb == "search")
    assert not read(run / "run.json")["finished"]
    assert enas(verb, f"resume={run}").err == ""
    assert read(run / "run.json")["finished"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_lists_what_the_command_takes(enas: Call, verb: str) -> None:
    outcome = enas(verb, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    listed: dict[str, list[str]] = {}
    for line in outcome.out.partition("Groups (GROUP=CHOICE):\n")[2].partition("\n\n")[0].splitlines():
        name = line.split()[0]
        if line.startswith("    "):
            listed[list(listed)[-1]].append(name)
        else:
            listed[name] = []
    declared = VERBS[verb].VERB
    assert listed.keys() == declared.groups.keys()
    suitable = recipes_of(verb)
    for group, names in listed.items():
        for option in options(group):
            fits = f"{group}={option}" in suitable if group in declared.recipes else recipe_offers(verb, group, option)
            assert (option in names) == fits, f"{group}={option}"
