"""Pretrains an encoder with SimCLR: `python train.py --help`. The command is in flags/train.py."""

from flags.train import main

if __name__ == "__main__":
    main()
