"""Numbers with their nouns."""


def plural(count: int, noun: str) -> str:
    """A number and what is counted."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
