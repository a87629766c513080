"""The printed table: the case beside the machine's limits, the peers beside ours, and the groups' means."""

from dataclasses import replace

import torch

from enas.bench import table
from enas.bench.cases import Case, Result, Setting, Sides, results
from enas.bench.launches import Launches
from enas.bench.machine import Limits
from enas.bench.timing import Samples

SETTING = Setting(torch.device("cpu"), "fp32", batch_size=64)
CASE = Case("sepconv/C20H32k3/fwd", lambda: Sides({}), bytes=20e6, operations=90e6)
SAMPLES = {
    "ours": Samples([0.002, 0.002, 0.004], [0.0, 0.0, 9.0]),
    "nchw": Samples([0.010, 0.012, 0.024], [1.0, 5.0, 3.0]),
    "channels_last": Samples([0.006, 0.006, 0.008], [0.0, 0.0, 0.0]),
}
LIMITS = Limits(copy=20e9, matrix=180e9)


def measured() -> list[Result]:
    return results(CASE, SAMPLES, SETTING, "native")


def test_one_result_a_peer() -> None:
    nchw, channels_last = measured()
    assert nchw.document() == {
        "case": "sepconv/C20H32k3/fwd",
        "device": "cpu",
        "precision": "fp32",
        "peer": "nchw",
        "ratio": 6.0,
        "ratio_low": 5.0,
        "ratio_high": 6.0,
        "n": 3,
        "peer_precision": "fp32, tf32 off",
        "batch_size": 64,
        "threads": torch.get_num_threads(),
        "kernels": "native",
        "ours_ms": 2.0,
        "peer_ms": 12.0,
        "bytes": 20e6,
        "operations": 90e6,
        "ours_faults": 0.0,
        "peer_faults": 3.0,
    }
    assert (channels_last.peer, channels_last.ratio) == ("channels_last", 3.0)


def test_a_line_shows_the_distance_to_the_limits() -> None:
    heading = table.heading(LIMITS, table.peers(compiled=False)).splitlines()
    line = table.line(measured(), LIMITS, {})
    assert "copy 20.0 GB/s (read and written), matrix product 180.0 GFLOP/s" in heading[0]
    assert len(heading[-1]) == len(line)
    assert line.split()[:9] == ["sepconv/C20H32k3/fwd", "2.00", "0.020", "10.0", "50%", "0.090", "45.0", "25%", "1.00"]
    assert line.endswith("12.00 6.00 [5.00, 6.00]         6.00 3.00 [2.00, 3.00]")


def test_an_absent_peer_is_told_with_its_reason() -> None:
    line = table.line(measured(), LIMITS, {"compile": "no compiler"}).splitlines()
    assert len(table.heading(LIMITS, table.peers(compiled=True)).splitlines()[-1]) == len(line[0])
    assert line[0].endswith(" absent")
    assert line[1] == "  compile: absent, it failed: no compiler"


def test_memory_is_shown_in_mebibytes() -> None:
    result = replace(
        measured()[0], case="memory/enas_micro", ours_ms=None, peer_ms=None, ours_bytes=2**20, peer_bytes=6 * 2**20
    )
    line = table.line([result], None, {})
    assert line.split() == ["memory/enas_micro", "1.0", "6.0", "6.00", "[5.00,", "6.00]"]
    assert "ours MiB" in table.heading(None, ["nchw"])


def test_a_group_is_compared_with_the_better_layout() -> None:
    nchw, channels_last = measured()
    other = replace(nchw, case="sepconv/C80H8k3/fwd", ratio=0.75)
    compiled = replace(nchw, peer="compile", ratio=0.1)
    text = table.summary([nchw, channels_last, compiled, other, replace(nchw, case="sepconv/C80H8k3/fwd+bwd")])
    assert text == (
        "sepconv/*/fwd: 1.50 times as fast as the better layout "
        "(geometric mean of 2; lowest 0.75 in sepconv/C80H8k3/fwd)"
    )


def test_launches_are_told_by_origin_and_name() -> None:
    counted = {
        "ours": Launches(5, 2, {"enas::cell": 5, "aten::add": 2}, measured=False),
        "nchw": Launches(0, 30, {"aten::add": 30}, measured=False),
    }
    assert table.launches(counted).splitlines() == [
        "  launches of a step, ours: 7 (5 of csrc/cuda, 2 of torch, estimated)",
        "  launches of a step, nchw: 30 (0 of csrc/cuda, 30 of torch, estimated)",
        "  most of ours: enas::cell 5, aten::add 2",
    ]
    nchw = results(CASE, SAMPLES, SETTING, "native", counted)[0].document()
    assert (nchw["ours_launches"], nchw["peer_launches"]) == (7, 30)
