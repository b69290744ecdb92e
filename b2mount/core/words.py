"""Quantities in words, as logs and the command line both say them."""


def show_count(number: int, thing: str) -> str:
    """Write a number of things: 1 file, 2 files."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def show_size(size_bytes: int) -> str:
    """Write a size for people: 0 B, 999 B, 1.5 KiB, 10.0 GiB."""
    value, unit = float(size_bytes), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
