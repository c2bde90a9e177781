"""What a shell offers for the value of an option, found when it asks."""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def words(found: Callable[[], Iterable[str]], listed: bool = False) -> Complete:
    """Those of some words that begin as what is there, or as the last of a list with commas."""

    def complete(
        context: click.Context, parameter: click.Parameter, begun: str
    ) -> list[CompletionItem]:
        del context, parameter
        last = begun.rpartition(",")[2] if listed else begun
        before = begun.removesuffix(last)
        return [CompletionItem(before + word) for word in found() if word.startswith(last)]

    return complete


def _of_type(kind: str) -> Complete:
    def complete(
        context: click.Context, parameter: click.Parameter, begun: str
    ) -> list[CompletionItem]:
        del context, parameter
        return [CompletionItem(begun, type=kind)]

    return complete


files, folders = _of_type("file"), _of_type("dir")  # which the shell itself completes
