"""The one exception for a user's mistake."""


class UserError(Exception):
    """A mistake in what the user gave, told in one sentence: the key, its value and what is allowed.

    The commands print the sentence and leave with exit code 2; nothing else is ever shown for it.
    """
