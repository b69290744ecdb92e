"""The verb `b2mount emulator`."""

from b2mount.emulator.command import emulator

__all__ = ["emulator"]
