"""Text: the vocabulary, unknown words, columns, and every mistake in one sentence."""

from pathlib import Path

import pytest
import torch

from enas.data import columns, text
from enas.errors import UserError


def write(folder: Path, train: str = "the cat sat\nthe <unk> sat\n", prefix: str = "", **others: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "valid", "test"):
        content = {"train": train, "valid": "the cat\n", "test": "the dog sat\n"} | others
        (folder / f"{prefix}{split}.txt").write_text(content[split], encoding="utf-8")
    return folder


@pytest.mark.parametrize("prefix", ["", "ptb."])
def test_words_are_numbered_by_frequency_and_lines_end(tmp_path: Path, prefix: str) -> None:
    data = text(write(tmp_path / "é", prefix=prefix))
    assert data.classes == ("<eos>", "sat", "the", "<unk>", "cat")
    assert data.train.tolist() == [2, 4, 1, 0, 2, 3, 1, 0]
    assert data.valid.tolist() == [2, 4, 0]
    assert data.test.tolist() == [2, 3, 1, 0]  # "dog" is unknown
    assert data.train.dtype == torch.int64
    assert data.extents == (1, 1, 1, 5)
    assert data.documents() == {"vocabulary.json": list(data.classes)}


def test_rare_words_become_unknown(tmp_path: Path) -> None:
    data = text(write(tmp_path, "a a a b b c d\n", valid="a c\n", test="b\n"), words=4)
    assert data.classes == ("a", "<unk>", "b", "<eos>")
    assert data.train.tolist() == [0, 0, 0, 2, 2, 1, 1, 3]
    assert data.valid.tolist() == [0, 1, 3]
    assert len(text(tmp_path, words=4).classes) == 4
    assert "<unk>" not in text(write(tmp_path, "a b\n", valid="a\n", test="b\n"), words=9).classes


def test_an_unknown_word_without_a_word_for_it_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a b\n", valid="a\n", test="a z\n")
    with pytest.raises(UserError, match=r"test has the word 'z', which training has not; write <unk> .* below 3$"):
        text(tmp_path)


def test_missing_double_empty_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "none")
    (tmp_path / "none" / "valid.txt").unlink()
    write(tmp_path / "two", prefix="a.")
    write(tmp_path / "two", prefix="b.")
    write(tmp_path / "empty", valid="\n \n")
    write(tmp_path / "binary")
    (tmp_path / "binary" / "test.txt").write_bytes(b"\xff\xfe\x00")
    for folder, said in {
        "none": "needed is one file valid.txt or NAME.valid.txt, there is none",
        "two": "there are a.train.txt, b.train.txt",
        "empty": "valid.txt has no words",
        "binary": "cannot be read as text in UTF-8",
        "absent": "train.txt",
    }.items():
        with pytest.raises(UserError, match=said) as caught:
            text(tmp_path / folder)
        assert "\n" not in str(caught.value)


def test_too_small_a_vocabulary_and_bfloat16_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.words=2: allowed is 3 or more"):
        text(write(tmp_path), words=2)
    data = text(tmp_path)
    assert data.stored_as(torch.float32) is data
    with pytest.raises(UserError, match="precision=bf16: text"):
        data.stored_as(torch.bfloat16)


def test_columns_are_read_side_by_side() -> None:
    assert columns(torch.arange(11), 3).tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
