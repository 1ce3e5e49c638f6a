"""Words that hang on a number."""


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts, in the singular for 1.

    >>> counted(1, "tensor"), counted(1200, "tensor")
    ('1 tensor', '1,200 tensors')
    >>> counted(2, "buffer moves", "buffers move")
    '2 buffers move'

    Args:
        number: how many there are.
        one: what stands behind 1.
        many: what stands behind any other number; by default ``one`` with an "s".
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
