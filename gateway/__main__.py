"""`pointsman`, and `python -m gateway`."""

from gateway.cli import app


def main() -> None:
    app()


if __name__ == "__main__":
    main()
