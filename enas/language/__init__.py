"""Language models: next words instead of classes, a state that is carried from window to window, perplexity."""

from enas.language.final import FinalLanguageTraining
from enas.language.shared import LanguageTraining

__all__ = ["FinalLanguageTraining", "LanguageTraining"]
