"""`python -m b2mount.emulator`."""

from b2mount.emulator.command import emulator

if __name__ == "__main__":
    emulator()
