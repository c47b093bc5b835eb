from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pellucid.errors import StateDiffers
from pellucid.store import anchors, tensors

SIZE = 3 * 65536 - 7


def written(place: Path) -> tuple[dict[str, dict[str, np.ndarray]], str]:
    """An anchor of step 3 with a tensor of three chunks in each group, and its state root."""
    groups = {
        group: {"w": np.arange(SIZE, dtype=np.float32).reshape(1, -1)}
        for group in ("weights", "exp_avg")
    }
    roots = tensors.state_roots(3, groups)
    entry = {"step": 3, "n": 7, "weights": roots.weights.hex(), "state": roots.state.hex()}
    anchors.write(place, groups, anchors.about(entry, roots), None)
    return groups, roots.state.hex()


@pytest.mark.parametrize(
    ("file", "group"),
    [(anchors.WEIGHTS, "weights"), (anchors.OPTIMIZER, "exp_avg")],
    ids=["weights", "optimizer"],
)
@pytest.mark.parametrize(
    ("element", "named"),
    [(0, "0 to 65535"), (65536, "65536 to 131071"), (SIZE - 1, f"131072 to {SIZE - 1}")],
)
def test_one_changed_element_names_its_chunk(
    file: str, group: str, element: int, named: str, tmp_path: Path
) -> None:
    _, recorded = written(tmp_path / "step3")
    content = bytearray((tmp_path / "step3" / file).read_bytes())
    content[4 * element - 4 * SIZE + len(content)] ^= 1
    (tmp_path / "step3" / file).write_bytes(content)
    with pytest.raises(StateDiffers, match=rf"\(differing: {group} w, elements {named}\)"):
        anchors.check(tmp_path / "step3", 3, recorded)


def test_the_description_is_no_proof(tmp_path: Path) -> None:
    """Where anchor.json names no chunk, or is not there, the state is refused all the same."""
    _, recorded = written(tmp_path / "step3")
    content = bytearray((tmp_path / "step3" / anchors.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (tmp_path / "step3" / anchors.WEIGHTS).write_bytes(content)
    for description in (b'{"tensors": {"weights": {"w": []}}}', b'{"tensors": 3}', b"not json"):
        (tmp_path / "step3" / anchors.ABOUT).write_bytes(description)
        with pytest.raises(StateDiffers) as caught:
            anchors.check(tmp_path / "step3", 3, recorded)
        assert "differing" not in str(caught.value)
