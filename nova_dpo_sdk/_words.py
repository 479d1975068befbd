"""Numbers with their nouns."""


def plural(count: int, noun: str) -> str:
    """A number and what is counted."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def are(count: int) -> str:
    """`is` of one, `are` of others."""
    return "is" if count == 1 else "are"


def have(count: int) -> str:
    """`has` of one, `have` of others."""
    return "has" if count == 1 else "have"
