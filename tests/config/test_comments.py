"""Descriptions of options are read from the source."""

from __future__ import annotations

from msgspec import Struct, field

from gatewayd.config.comments import descriptions


class Example(Struct):
    """Not an option's."""

    behind: int = 1  # a comment, with "# more" in it
    # above is not behind
    silent: int = 1
    long: list[str] = field(
        default_factory=list,
    )  # behind the last line
    below: int = 1
    """A docstring

    of several lines.
    """

    both: int = 1  # the docstring wins
    """This."""

    def method(self) -> int:
        """Not an option's."""
        return 1


def test_comments_and_docstrings():
    assert descriptions(Example) == {
        "behind": 'a comment, with "# more" in it',
        "long": "behind the last line",
        "below": "A docstring\n\nof several lines.",
        "both": "This.",
    }


class Derived(Example):
    """Has what it inherits."""

    more: int = 1  # its own
    behind: int = 2  # said anew


def test_inherited_options():
    assert descriptions(Derived) == {**descriptions(Example), "more": "its own", "behind": "said anew"}


def test_a_struct_inside_a_function():
    class Inner(Struct):
        value: int = 1  # told

    assert descriptions(Inner) == {"value": "told"}
