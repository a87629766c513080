"""Text for language models: three streams of words on the device, and the vocabulary of the training stream."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os.path import expanduser
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from enas.errors import UserError

END, UNKNOWN = "<eos>", "<unk>"
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Text:
    """Training, validation and test text of one language; word i is `classes[i]`."""

    material: ClassVar[Literal["images", "text"]] = "text"
    unit: ClassVar[str] = "words"

    name: str
    train: Tensor  # int64 [N]
    valid: Tensor  # int64 [N]
    test: Tensor  # int64 [N]
    classes: tuple[str, ...]  # the vocabulary, most frequent first

    @property
    def extents(self) -> tuple[int, int, int, int]:
        """(height, width, channels, classes) of a scale."""
        return 1, 1, 1, len(self.classes)

    def to(self, device: torch.device | str) -> "Text":
        """The same text on another device."""
        return replace(self, train=self.train.to(device), valid=self.valid.to(device), test=self.test.to(device))

    def stored_as(self, storage: torch.dtype) -> "Text":
        """Itself. Raises UserError for bfloat16: words are whole numbers, there is nothing to store so."""
        if storage != torch.float32:
            raise UserError("precision=bf16: text has no images to store so; allowed are fp32 and tf32")
        return self

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.train.device

    def documents(self) -> Mapping[str, Any]:
        """JSON files that belong into a run directory, by name, so that what was trained can be used later."""
        return {"vocabulary.json": list(self.classes)}


def columns(words: Tensor, count: int) -> Tensor:
    """A stream [N] cut into `count` columns of equal length that are read side by side: [count, N // count].

    Fewer than `count` words at its end are left out.
    """
    return words[: len(words) // count * count].view(count, -1)


def text(root: str | Path, words: int | None = None) -> Text:
    """Three files of words separated by blanks: train.txt, valid.txt and test.txt, or NAME.train.txt and so on.

    Every line ends with the word <eos>. The vocabulary is that of the training file; a word of another file that is not
    in it becomes <unk>.

    Args:
        root: the folder of the files, in UTF-8.
        words: the most words of a vocabulary, <eos> and <unk> included: others, the rarest, become <unk>.

    Raises UserError where a file is missing, empty or no text, or another file has unknown words and training has no
    <unk>.
    """
    if words is not None and words < 3:
        raise UserError(f"data.words={words}: allowed is 3 or more, or null for all words of the training file")
    folder = Path(expanduser(root))
    streams = {split: _read(_find(folder, split)) for split in SPLITS}
    counts = Counter(streams["train"])
    if words is not None and len(counts) > words:
        counts[UNKNOWN] += 0  # there even if the text itself has none
        for rare in sorted(counts.keys() - {END, UNKNOWN}, key=lambda word: (-counts[word], word))[words - 2 :]:
            counts[UNKNOWN] += counts.pop(rare)
    vocabulary = tuple(sorted(counts, key=lambda word: (-counts[word], word)))
    places = {word: place for place, word in enumerate(vocabulary)}
    for split, stream in streams.items():
        unknown = next((word for word in stream if word not in places), None)
        if unknown is not None and UNKNOWN not in places:
            raise UserError(
                f"data.root={root}: {split} has the word {unknown!r}, which training has not; "
                f"write {UNKNOWN} for rare words, or set data.words to a number below {len(vocabulary)}"
            )
    train, valid, test = (
        torch.tensor([places.get(word, places.get(UNKNOWN, 0)) for word in streams[split]], dtype=torch.int64)
        for split in SPLITS
    )
    return Text("text", train, valid, test, vocabulary)


def _find(folder: Path, split: str) -> Path:
    """`split`.txt, else the one file NAME.`split`.txt."""
    plain = folder / f"{split}.txt"
    found = [plain] if plain.is_file() else sorted(folder.glob(f"*.{split}.txt"))
    if len(found) != 1:
        many = f"there are {', '.join(path.name for path in found)}" if found else "there is none"
        raise UserError(f"data.root={folder}: needed is one file {split}.txt or NAME.{split}.txt, {many}")
    return found[0]


def _read(path: Path) -> list[str]:
    """The words of a file, each line ended by <eos>."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.root: {path} cannot be read as text in UTF-8 ({error})") from error
    if not any(line.split() for line in lines):
        raise UserError(f"data.root: {path} has no words")
    return [word for line in lines for word in (*line.split(), END)]
