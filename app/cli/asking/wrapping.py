"""Text that comes in pieces, broken into lines between words."""

from __future__ import annotations

from rich.cells import cell_len

TAB_CELLS = 8


class WordWrap:
    """Breaks lines of at most `width` cells at white space, and words that are longer anywhere.

    A word is held back until its end has come.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._word = ""

    def feed(self, text: str) -> str:
        """What can be printed now."""
        ready: list[str] = []
        for char in text:
            if not char.isspace():
                if cell_len(self._word + char) > self._width:
                    ready.append(self.rest())
                self._word += char
                continue
            ready.append(self.rest())
            ready.append(self._space(char))
        return "".join(ready)

    def rest(self) -> str:
        """The word that was held back."""
        word, self._word = self._word, ""
        cells = cell_len(word)
        broken = self._column > 0 and self._column + cells > self._width
        self._column = cells if broken else self._column + cells
        return f"\n{word}" if broken else word

    def _space(self, char: str) -> str:
        if char == "\n":
            self._column = 0
            return char
        self._column += TAB_CELLS - self._column % TAB_CELLS if char == "\t" else cell_len(char)
        return char if self._column <= self._width else ""
