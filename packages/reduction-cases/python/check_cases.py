"""Puts the cases of a method to an implementation in Python; needs Python 3.9 and nothing else.

    from check_cases import check
    print(check("vispruner", lambda case: my_vispruner(**case["inputs"], **case["params"])))
"""
import base64
import json
import pathlib
import struct

CASES = pathlib.Path(__file__).resolve().parent.parent / "cases"


def decode(value):
    """An array becomes nested lists by its shape; whatever else stays."""
    if value.get("dtype") != "f32le":
        return value
    raw = base64.b64decode(value["b64"])
    rows = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    for width in reversed(value["shape"][1:]):
        rows = [rows[i : i + width] for i in range(0, len(rows), width)]
    return rows


def load(method):
    """The file of a method, e.g. "vispruner", with its arrays decoded."""
    return json.loads((CASES / f"{method}.json").read_text("utf-8"), object_hook=decode)


def check(method, implementation):
    """Names of the cases that differ, with what differs. `implementation` takes a case, a dict with "params"
    and "inputs", and gives the kept positions in any order; of several stages, a list of them."""
    differences = {}
    for case in load(method)["cases"]:
        if case["kept"] is None:
            continue  # case["why_not_compared"] says why
        kept = list(implementation(case))
        stages = [list(stage) for stage in kept] if kept and hasattr(kept[0], "__iter__") else [kept]
        if [sorted(stage) for stage in stages] != case["kept"]:
            wrong = [sorted(set(ours) ^ set(right)) for ours, right in zip(stages, case["kept"])]
            differences[case["name"]] = f"{len(stages)} of {len(case['kept'])} stages, positions in one only: {wrong}"
    return differences
