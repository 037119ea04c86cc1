"""Judges or exports the encoder of a run: `python evaluate.py --help`. The command is in flags/evaluate.py."""

from flags.evaluate import main

if __name__ == "__main__":
    main()
