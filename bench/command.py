"""The `quorum` command of the checkout that comes first on the path."""

from app.cli import main

if __name__ == "__main__":
    main()
