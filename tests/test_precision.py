"""What each precision means: flags of torch, types of storage, and results that stay near."""

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from conformance import SCALE, generator, toy_data
from enas import kernels
from enas.errors import UserError
from enas.precision import STORAGE, select
from enas.space import EnasMicro, Noise
from enas.supernet import Child, Supernet
from tolerances import STORED_NETWORK, assert_stored

SPACE = EnasMicro(3)
KERNELS = pytest.mark.parametrize("kernel", ["native", "reference"])


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("precision", STORAGE)
def test_tf32_is_used_only_where_asked_for(precision: str) -> None:
    storage = select(precision)
    assert storage == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
    assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match=r"^precision=fp16: allowed are fp32, tf32, bf16$"):
        select("fp16")


def test_a_data_set_gives_batches_in_the_type_of_storage() -> None:
    data = toy_data()
    indices = torch.arange(4)
    plain, _ = data.batch(data.train, indices, None)
    assert plain.dtype == torch.float32
    stored = data.stored_as(torch.bfloat16)
    for generator_or_none in (None, generator()):
        assert stored.batch(data.train, indices, generator_or_none)[0].dtype == torch.bfloat16
    assert torch.equal(stored.batch(data.train, indices, None)[0], plain.bfloat16())
    assert {batch.dtype for batch in stored.sample(4)} == {torch.bfloat16}


@KERNELS
def test_a_supernet_on_bfloat16_images(kernel: str) -> None:
    """Logits, weights and gradients stay float32, and near those of float32 images."""
    kernels.select(kernel, torch.device("cpu"))
    data = toy_data()
    supernet, rows = Supernet(SPACE, SCALE, generator(1)), SPACE.random(3, generator())
    logits = {}
    for storage in (torch.float32, torch.bfloat16):
        inputs, labels = data.stored_as(storage).batch(data.train, torch.arange(16), None)
        logits[storage] = supernet(inputs.unsqueeze(0), rows, noise=Noise(generator(), dropout=0.1))
        assert logits[storage].dtype == torch.float32
    loss = functional.cross_entropy(logits[torch.bfloat16].flatten(0, 1), labels.repeat(3))
    loss.backward()  # type: ignore[no-untyped-call]
    for parameter in supernet.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is None or parameter.grad.isfinite().all()
    assert_stored(logits[torch.bfloat16], logits[torch.float32], STORED_NETWORK)


@KERNELS
def test_a_child_learns_from_bfloat16_images(kernel: str) -> None:
    kernels.select(kernel, torch.device("cpu"))
    data = toy_data().stored_as(torch.bfloat16)
    child = Child(SPACE, SPACE.random(1, generator())[0].tolist(), SCALE, generator(1), auxiliary=True)
    inputs, labels = data.batch(data.train, torch.arange(16), None)
    output = child.learn(inputs, Noise(generator(), drop_path=0.3))
    assert output.auxiliary is not None
    assert output.logits.dtype == output.auxiliary.dtype == torch.float32
    (output.logits[0] + output.auxiliary[0]).logsumexp(dim=1).sum().backward()
    assert all(statistics.dtype == torch.float32 for statistics in child.running_statistics().values())
    child.eval()
    assert child(inputs).dtype == torch.float32
    assert labels.dtype == torch.int64
