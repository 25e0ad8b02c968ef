"""A table of a TOML file. Each error names the key, and what is expected."""

import re
from pathlib import Path

from failure import Failure

ROOT = Path(__file__).resolve().parents[3]
KINDS = {int: "an integer", bool: "true or false", str: "a text", list: "a list", dict: "a table"}


class Table:
    """A table of the file. Each key is taken once; a remaining key is an error."""

    def __init__(self, name: str, values: dict) -> None:
        self.name, self.values = name, dict(values)

    def key(self, key: str) -> str:
        """The key with its table's name."""
        return f"{self.name}.{key}" if self.name else key

    def take(self, key: str, kind: type) -> object:
        """A required value."""
        if key not in self.values:
            raise Failure(f"{self.key(key)} is missing")
        value = self.values.pop(key)
        if type(value) is not kind:
            raise Failure(f"{self.key(key)}: {value!r}, expected {KINDS[kind]}")
        return value

    def table(self, key: str) -> "Table":
        """A required table."""
        return Table(self.key(key), self.take(key, dict))

    def optional_table(self, key: str) -> "Table":
        """A table, empty if absent."""
        return self.table(key) if key in self.values else Table(self.key(key), {})

    def matching(self, key: str, value: object, pattern: re.Pattern | None, expected: str) -> str:
        """Checks that a value is a text of this form."""
        if not isinstance(value, str) or (pattern is not None and not pattern.fullmatch(value)):
            raise Failure(f"{self.key(key)}: {value!r}, expected {expected}")
        return value

    def text(self, key: str, pattern: re.Pattern, expected: str) -> str:
        """A required text of this form."""
        return self.matching(key, self.take(key, str), pattern, expected)

    def optional(self, key: str, pattern: re.Pattern, expected: str) -> str | None:
        """A text of this form, if present."""
        return self.text(key, pattern, expected) if key in self.values else None

    def optional_flag(self, key: str) -> bool:
        """True or false; false if absent."""
        return self.take(key, bool) if key in self.values else False

    def texts(self, key: str, pattern: re.Pattern | None, expected: str) -> list[str]:
        """A required list of texts of this form."""
        return [self.matching(key, value, pattern, expected) for value in self.take(key, list)]

    def optional_texts(self, key: str, pattern: re.Pattern | None, expected: str) -> list[str]:
        """A list of texts of this form, empty if absent."""
        return self.texts(key, pattern, expected) if key in self.values else []

    def number(self, key: str, least: int, most: int) -> int:
        """A required number within these bounds."""
        value = self.take(key, int)
        if not least <= value <= most:
            raise Failure(f"{self.key(key)}: {value}, expected {least} to {most}")
        return value

    def optional_number(self, key: str, least: int, most: int, default: int) -> int:
        """A number within these bounds, if present."""
        return self.number(key, least, most) if key in self.values else default

    def path(self, key: str) -> Path:
        """A required path, relative to the project's folder."""
        return ROOT / self.take(key, str)

    def optional_paths(self, key: str) -> list[Path]:
        """A list of paths, empty if absent."""
        return [ROOT / path for path in self.optional_texts(key, None, "a path")]

    def end(self) -> None:
        """Refuses remaining keys."""
        for key in self.values:
            raise Failure(f"{self.key(key)}: unknown key")
