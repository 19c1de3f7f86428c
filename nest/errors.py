"""The error that a user can cause and mend."""


class UserError(Exception):
    """One line: what is wrong, with the numbers, and the mend; shown as it is."""
