"""What is told in one sentence: a user's mistake, above all."""


class UserError(Exception):
    """A mistake in what the user gave, told in one sentence: the key, its value and what is allowed.

    The commands print the sentence and leave with exit code 2; nothing else is ever shown for it.
    """


class DivergedError(UserError):
    """A loss or a gradient was not finite: the weights are lost."""
