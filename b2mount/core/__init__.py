"""What is true without any wire: standard library alone, no clock, no log, no await."""
