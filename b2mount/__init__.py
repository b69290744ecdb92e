"""Mount exactly what a Backblaze B2 application key may see, as a Linux file system."""

__version__ = "0.1.0"
