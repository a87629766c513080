"""A child on its own: running statistics, training passes, the file."""

from pathlib import Path
from typing import Any

import pytest
import torch

from conformance import SCALE, generator, images
from enas.errors import UserError
from enas.space import EnasMicro, Noise
from enas.supernet import Child, Supernet, load_child, save_child
from tolerances import assert_same

SPACE = EnasMicro(3, "concat")
ROW = SPACE.random(1, generator(2))[0].tolist()
CPU = torch.device("cpu")


def child(auxiliary: bool = False, decay: float = 0.9) -> Child:
    return Child(SPACE, ROW, SCALE, generator(1), auxiliary, decay)


def learnt(auxiliary: bool = False) -> Child:
    """A child whose running statistics are not the initial ones."""
    own = child(auxiliary)
    own.learn(images()[0], Noise(generator()))
    return own


def test_running_statistics_move_by_the_decay() -> None:
    own = child(decay=0.75).double()
    inputs = images().double()
    batch = own.network(inputs, own.network.routes, collect=True).statistics
    start = {name: value.clone() for name, value in own.running_statistics().items()}
    assert batch.keys() == start.keys()
    for value in start.values():
        assert (value[..., 0, :] == 0).all()
        assert (value[..., 1, :] == 1).all()
    own.learn(inputs[0], Noise(generator()))
    for name, value in own.running_statistics().items():
        assert_same(value, 0.75 * start[name] + 0.25 * batch[name])


def test_training_normalises_by_the_batch_and_evaluation_by_running_statistics() -> None:
    own = learnt()
    inputs = images(batch=6, seed=3)[0]
    expected = own.network(inputs[None], own.network.routes, statistics=own.running_statistics()).logits[0]
    assert torch.equal(own.train()(inputs), own.network(inputs[None], own.network.routes).logits[0])
    assert torch.equal(own.eval()(inputs), expected)
    assert not torch.allclose(own.train()(inputs), expected)


def test_evaluation_treats_each_image_alone_and_changes_nothing() -> None:
    own = learnt().double().eval()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    inputs = images(batch=4).double()[0]
    assert_same(torch.cat([own(image[None]) for image in inputs]), own(inputs))
    own.train()(inputs)
    for name, value in own.state_dict().items():
        assert torch.equal(value, before[name])


def test_statistics_of_the_supernet_make_the_child_its_path() -> None:
    supernet = Supernet(SPACE, SCALE, generator(1)).double()
    rows = torch.tensor([ROW])
    statistics = supernet.statistics([images(batch=8, seed=seed).double() for seed in (1, 2)], rows)
    own = supernet.extract(ROW)
    own.set_statistics(statistics)
    inputs = images(batch=5, seed=7).double()
    assert_same(own.eval()(inputs[0]), supernet(inputs, rows, statistics=statistics)[0])


def test_a_row_of_another_space_is_refused() -> None:
    with pytest.raises(UserError, match="24 decisions"):
        Child(SPACE, ROW[:-1], SCALE, generator())


def test_learning_gives_the_auxiliary_logits_and_evaluation_does_not() -> None:
    own = child(auxiliary=True)
    output = own.learn(images()[0], Noise(generator()))
    assert output.logits.shape == (1, 3, SCALE.classes)
    assert output.auxiliary is not None
    assert output.auxiliary.shape == (1, 3, SCALE.classes)
    output.auxiliary.square().sum().backward()
    gradients = [p.grad for name, p in own.named_parameters() if ".auxiliary." in name]
    assert len(gradients) > 0
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    assert own.network(images(), own.network.routes).auxiliary is None
    assert child().learn(images()[0], Noise(generator())).auxiliary is None


@pytest.mark.parametrize("auxiliary", [False, True])
def test_a_saved_child_is_the_same_child(tmp_path: Path, auxiliary: bool) -> None:
    own = learnt(auxiliary).eval()
    save_child(own, tmp_path / "child é.pt")
    read = load_child(tmp_path / "child é.pt", CPU)
    assert not read.training
    assert (read.row, read.scale, read.space.arguments) == (tuple(ROW), SCALE, SPACE.arguments)
    assert torch.equal(read(images()[0]), own(images()[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["child é.pt"]


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_child(path, CPU)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"{path}: ")
    return sentence.removeprefix(f"{path}: ")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.pt") == "no such file"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "child.pt"
    save_child(learnt(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged or not a child" in refused(path)


@pytest.mark.parametrize("content", [b"text", b"PK\x03\x04 and no more"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "child.pt"
    path.write_bytes(content)
    assert "damaged or not a child" in refused(path)


class Executed:
    """A pickle that would run code of its own."""

    def __reduce__(self) -> Any:
        return (print, ("executed",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"format": "enas-child", "version": 1, "state": Executed()}, tmp_path / "child.pt")
    assert "damaged or not a child" in refused(tmp_path / "child.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "not a child of version 1"),
        ({"format": "enas-checkpoint"}, "not a child of version 1"),
        ({"choices": [9] * 24}, "altered"),
        ({"choices": [0] * 24}, "altered"),
        ({"space": {"name": "other"}}, "altered"),
        ({"space": {"name": "enas_micro", "nodes": 4, "output": "concat"}}, "altered"),
        ({"scale": {**SCALE.document(), "filters": 8}}, "altered"),
        ({"scale": {"layers": 1}}, "altered"),
        ({"state": {}}, "altered"),
        ({"space": {}}, "altered"),
    ],
)
def test_an_altered_file_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "child.pt"
    save_child(learnt(), path)
    torch.save({**torch.load(path, weights_only=True), **changes}, path)
    assert said in refused(path)


def test_a_list_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "child.pt")
    assert "not a child of version 1" in refused(tmp_path / "child.pt")
