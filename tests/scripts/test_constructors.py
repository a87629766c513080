"""Values of a `_target_` node against the signature of what it names."""

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from enas.errors import UserError
from enas.scripts import constructors


class Target:
    def __init__(
        self,
        whole: int = 0,
        number: float = 0.0,
        flag: bool = False,
        text: str = "",
        perhaps: int | None = None,
        choice: Literal["a", "b", 3] = "a",
        many: Sequence[int] = (),
        listed: list[float] | None = None,
        pair: tuple[int, str] = (0, ""),
        endless: tuple[int, ...] = (),
        table: Mapping[str, int] | None = None,
        named: dict[str, int] | None = None,
        anything: Any = None,
        bare=None,
        other: "Target | None" = None,
    ) -> None:
        pass


def open_ended(whole: int = 0, **rest: Any) -> None:
    pass


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    """The constructors under a name that can be imported."""
    targets = ModuleType("targets")
    targets.Target, targets.open_ended = Target, open_ended  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "targets", targets)


def check(target: str = "targets.Target", **values: Any) -> None:
    constructors.check(OmegaConf.create({"node": {"_target_": target, **values}}))


@pytest.mark.parametrize(
    "values",
    [
        {"whole": -3},
        {"number": 1},
        {"number": 1e-3},
        {"flag": True},
        {"text": "x"},
        {"perhaps": None},
        {"perhaps": 2},
        {"choice": "b"},
        {"choice": 3},
        {"many": [1, 2]},
        {"many": []},
        {"listed": [1, 2.5]},
        {"listed": None},
        {"pair": [1, "x"]},
        {"endless": [1, 2, 3]},
        {"table": {"x": 1}},
        {"named": {"x": 1}},
        {"anything": [1, "x", None]},
        {"bare": {"x": 1}},
        {"other": None},
        {"other": {"_target_": "targets.Target", "whole": 1}},
        {"_partial_": True, "_convert_": "all", "_recursive_": False},
    ],
)
def test_a_value_that_fits_passes(values: dict[str, Any]) -> None:
    check(**values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"whole": 1.5}, "node.whole=1.5: has to be a whole number"),
        ({"whole": True}, "node.whole=True: has to be a whole number"),
        ({"whole": "3"}, "node.whole=3: has to be a whole number"),
        ({"whole": None}, "node.whole=None: has to be a whole number"),
        ({"number": "x"}, "node.number=x: has to be a number"),
        ({"number": False}, "node.number=False: has to be a number"),
        ({"number": float("nan")}, "node.number=nan: has to be a number"),
        ({"flag": 1}, "node.flag=1: has to be true or false"),
        ({"text": 1}, "node.text=1: has to be text"),
        ({"perhaps": "x"}, "node.perhaps=x: has to be a whole number or null"),
        ({"choice": "c"}, "node.choice=c: has to be one of a, b, 3"),
        ({"choice": True}, "node.choice=True: has to be one of a, b, 3"),
        ({"many": 1}, "node.many=1: has to be a list, each entry a whole number"),
        ({"many": "12"}, "node.many=12: has to be a list, each entry a whole number"),
        ({"many": [1, "x"]}, r"node.many=[1, 'x']: has to be a list, each entry a whole number"),
        ({"listed": ["x"]}, "node.listed=['x']: has to be a list, each entry a number or null"),
        ({"pair": [1]}, "node.pair=[1]: has to be a list of 2 values"),
        ({"pair": ["x", 1]}, "node.pair=['x', 1]: has to be a list of 2 values"),
        ({"endless": [1.5]}, "node.endless=[1.5]: has to be a list, each entry a whole number"),
        ({"table": 3}, "node.table=3: has to be a mapping or null"),
        ({"wholes": 3}, "node.wholes: targets.Target has no key wholes; did you mean whole?"),
        ({"other": {"_target_": "targets.Target", "flag": 2}}, "node.other.flag=2: has to be true or false"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        check(**values)
    assert str(caught.value) == sentence


def test_nodes_are_found_within_lists() -> None:
    config = OmegaConf.create({"list": [{"plain": 1}, {"_target_": "targets.Target", "flag": 2}]})
    with pytest.raises(UserError, match=r"^list\[1\]\.flag=2: "):
        constructors.check(config)


def test_a_constructor_of_any_keys_takes_any_key() -> None:
    check("targets.open_ended", other=1)
    with pytest.raises(UserError, match="whole"):
        check("targets.open_ended", whole="x")


@pytest.mark.parametrize("target", ["targets.Nothing", "no_such_module.Thing", "not a name"])
def test_a_missing_constructor_is_refused(target: str) -> None:
    with pytest.raises(UserError, match=f"^node: there is no constructor {target} "):
        check(target)


def test_the_hint_names_the_close_one_or_all() -> None:
    assert constructors.hint("epochz", ["seed", "epochs"]) == "did you mean epochs?"
    assert constructors.hint("zzz", ["seed", "epochs"]) == "there are epochs, seed"
    assert constructors.hint("zzz", []) == "there are none"
