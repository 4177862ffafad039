"""`python -m percore`: the same as `percore`, where its directory is not in PATH."""

from percore.command import main

if __name__ == "__main__":
    main()
