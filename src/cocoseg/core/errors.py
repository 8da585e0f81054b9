"""What a user can mend, told in one line."""


class CocosegError(Exception):
    """A mistake outside the code: one line with the place, what was found, what is allowed, and the way out."""
