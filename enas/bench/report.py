"""One JSON and one Markdown file from what the stages of scripts/gpu_report.sh left: `report.py STAGES OUT`.

Nothing but Python itself is imported, so that there is a report whatever failed. STAGES holds stages.tsv, a line for
each stage (name, exit code or "waiting" or "no time", seconds, limit, what it does), its NAME.log and, where something
was measured, NAME.jsonl.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

JSON, MARKDOWN = "gpu_report.json", "gpu_report.md"
TAIL = 6000
"""Characters of a stage's output that are kept."""
TIMED_OUT = (124, 137)

Lines = Sequence[Mapping[str, Any]]


def collect(folder: Path) -> dict[str, Any]:
    """What the stages in `folder` left: how each ended, the end of its output, its measurements."""
    stages = []
    results: dict[str, Lines] = {}
    for line in _text(folder / "stages.tsv").splitlines():
        name, code, seconds, limit, what = line.split("\t")
        log = _text(folder / f"{name}.log")
        stages.append(
            {
                "name": name,
                "what": what,
                "state": _state(code),
                "seconds": float(seconds),
                "limit": float(limit),
                "output": log[-TAIL:],
            }
        )
        if measured := _lines(folder / f"{name}.jsonl"):
            results[name] = measured
    return {"environment": _text(folder / "environment.log").strip(), "stages": stages, "results": results}


def markdown(report: Mapping[str, Any]) -> str:
    """The same for reading: tables that can stand in docs/results.md as they are."""
    results: Mapping[str, Lines] = report["results"]
    parts = ["# GPU report", f"```\n{report['environment']}\n```", _stages(report["stages"])]
    lines = [line for name, measured in results.items() if name != "environment" for line in measured]
    machine = [line for line in lines if line["case"] == "machine"]
    searches = [line for line in lines if line["case"].startswith("search/")]
    memory = [line for line in lines if "ours_bytes" in line]
    timed = [line for line in lines if "ours_ms" in line]
    if machine:
        parts.append(_machine(machine[0]))
    parts += [_search(line) for line in searches]
    whole = [line for line in timed if line["case"].startswith(("step/", "score/"))]
    if whole:
        parts.append("## Steps and scores\n" + _comparison(whole, launches=True))
    single = [line for line in timed if line not in whole]
    if single:
        parts.append("## Operations\n" + _comparison(single, launches=False))
    if memory:
        parts.append("## Memory\n" + _memory(memory))
    for stage in report["stages"]:
        if stage["name"] in ("tests", "memcheck", "racecheck", "profile") and stage["output"]:
            kept = stage["output"] if stage["name"] == "profile" else _last(stage["output"], 4)
            parts.append(f"## {stage['what']}\n```\n{kept.strip()}\n```")
    for stage in report["stages"]:
        if stage["state"] in ("failed", "timed out"):
            parts.append(f"## {stage['name']} {stage['state']}\n```\n{_last(stage['output'], 30)}\n```")
    return "\n\n".join(parts) + "\n"


def table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(str(value) for value in line) + " |" for line in lines)


def failed(report: Mapping[str, Any]) -> bool:
    """Whether some stage failed or ran out of time; one that waits for a GPU did not."""
    return any(stage["state"] in ("failed", "timed out", "left out, no time") for stage in report["stages"])


def _state(code: str) -> str:
    if not code.isdigit():
        return {"waiting": "waits for a GPU", "no time": "left out, no time"}[code]
    return "passed" if code == "0" else "timed out" if int(code) in TIMED_OUT else "failed"


def _stages(stages: Lines) -> str:
    rows = [
        (f"`{stage['name']}`", stage["what"], stage["state"], f"{stage['seconds']:.0f} of {stage['limit']:.0f}")
        for stage in stages
    ]
    return "## Stages\n" + table(["stage", "what", "state", "seconds"], rows)


def _machine(line: Mapping[str, Any]) -> str:
    rows = [("copy, read and written", f"{line['copy_bytes_s'] / 1e9:,.0f} GB/s")]
    for name in ("fp32", "tf32", "bf16"):
        if line.get(f"{name}_flop_s") is not None:
            rows.append((f"matrix product, {name}", f"{line[f'{name}_flop_s'] / 1e12:.2f} TFLOP/s"))
    rows += [
        ("a small operation of torch", f"{line['call_us']:.2f} us"),
        ("a call of ours that copies", f"{line['native_us']:.2f} us"),
    ]
    if line.get("replay_us") is not None:
        rows.append(("a small kernel in a graph", f"{line['replay_us']:.2f} us"))
    return f"## {line['device']}, torch {line['torch']}\n" + table(["measured", "at most"], rows)


def _search(line: Mapping[str, Any]) -> str:
    ours, plain, ratios = line["ours"], line["plain"], line["ratios"]
    rows: list[tuple[str, str, str, str]] = []
    for part in ("weights", "scoring", "controller", "rest", "epoch"):
        own, theirs = ours[f"{part}_s"], plain[f"{part}_s"]
        rows.append((f"{part}, s an epoch", f"{own:.3f}", f"{theirs:.3f}", _interval(*ratios[part])))
    rows += [
        (f"{line['epochs']:g} epochs, s", f"{ours['search_s']:,.1f}", f"{plain['search_s']:,.1f}", ""),
        ("training images a second", f"{ours['images_per_s']:,.0f}", f"{plain['images_per_s']:,.0f}", ""),
        ("children scored a second", f"{ours['children_per_s']:,.1f}", f"{plain['children_per_s']:,.1f}", ""),
        ("launches of a training step", ours["step_launches"], plain["step_launches"], ""),
    ]
    if ours["peak_bytes"] is not None:
        rows.append(
            ("peak of memory, MiB", f"{ours['peak_bytes'] / 2**20:,.0f}", f"{plain['peak_bytes'] / 2**20:,.0f}", "")
        )
    for name, floor in line["floors"].items():
        text = f"floor on {name}, {floor['search_s']:,.1f} s, reached"
        rows.append((text, f"{floor['ours_reached']:.1%}", f"{floor['peer_reached']:.1%}", ""))
    said = (
        f"## `{line['case']}`, {line['precision']}, {line['device']}\n"
        f"{line['data']} images, batch {line['batch_size']}, an epoch of {line['epoch_steps']} steps and "
        f"{line['epoch_updates']} updates of {line['samples']} rows; n = {line['n']} turns of {line['segment_steps']} "
        f"steps and {line['segment_updates']} updates; {line['kernels']} kernels; peer: {line['peer']}, "
        f"{line['peer_precision']}.\n\n"
    )
    return said + table(["", "ours", "plain PyTorch", "times ours"], rows)


def _comparison(lines: Lines, launches: bool) -> str:
    """One row a case, precision, batch and number of our launches, which ENAS_LAUNCH changes; a column a peer."""
    peers = list(dict.fromkeys(line["peer"] for line in lines))
    cases: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for line in lines:
        key = (line["case"], line["precision"], line["batch_size"], line.get("ours_launches"))
        cases.setdefault(key, {})[line["peer"]] = line
    rows = []
    for (case, precision, batch, _), found in cases.items():
        first = next(iter(found.values()))
        row = [f"`{case}`", precision, batch, f"{first['ours_ms']:.3f}"]
        row += [_against(found[peer]) if peer in found else "-" for peer in peers]
        if launches:
            counts = [first.get("ours_launches"), *(one.get("peer_launches") for one in found.values())]
            row.append(" / ".join(str(count) for count in counts) if counts[0] is not None else "-")
        rows.append(row)
    heading = ["case", "precision", "batch", "ours, ms", *peers]
    return table([*heading, "launches of a step, ours / peers"] if launches else heading, rows)


def _memory(lines: Lines) -> str:
    rows = [
        (
            line["precision"],
            line["batch_size"],
            f"{line['ours_bytes'] / 2**20:,.0f}",
            line["peer"],
            f"{line['peer_bytes'] / 2**20:,.0f}",
            f"{line['ratio']:.2f}",
        )
        for line in lines
    ]
    return table(["precision", "batch", "ours, MiB", "peer", "its MiB", "times ours"], rows)


def _against(line: Mapping[str, Any]) -> str:
    return _interval(line["ratio"], line["ratio_low"], line["ratio_high"])


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _last(text: str, lines: int) -> str:
    return "\n".join(text.rstrip().splitlines()[-lines:])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _lines(path: Path) -> Lines:
    """Whole lines of JSON; a stage that was killed may have left a part of one."""
    found = []
    for line in _text(path).splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def main(stages: Path, out: Path) -> int:
    """Write both files; the exit code says whether a stage failed."""
    report = collect(stages)
    out.mkdir(parents=True, exist_ok=True)
    (out / JSON).write_text(json.dumps(report, indent=1), encoding="utf-8")
    (out / MARKDOWN).write_text(markdown(report), encoding="utf-8")
    return int(failed(report))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
