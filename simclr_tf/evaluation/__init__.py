"""Judging a frozen encoder: `protocol.evaluate` tells the story, each probe is a file of its own."""
