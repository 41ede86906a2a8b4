"""The errors of the storage layer: a small tree."""

import re

import pytest

from storage import errors
from storage.errors import Error

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Error)]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The docstring lists each class of error below the root."""
    drawn = re.findall(r"^( *)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)
    depths = [(" " * 4 * (len(kind.__mro__) - len(Error.__mro__) - 1), kind.__name__) for kind in KINDS]
    assert drawn == depths[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_carries_its_sentence(kind: type[Error]) -> None:
    """`str` of an error is its sentence."""
    assert str(kind("There is no such dream.")) == "There is no such dream."
