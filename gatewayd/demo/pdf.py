"""A large PDF (ISO 32000-1) that is never held: each part is made when it is read, its place is known before.

A policy's archive: pages of typed text above a scanned sheet. Each page is three objects of a fixed length,
so the cross-reference table and every byte range follow from arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatewayd.demo import book

WIDTH, HEIGHT = 248, 256
"""Of a scan, grey pixels of one byte."""
_TEXT = 2_048
"""Bytes of a page's text stream, filled up with spaces."""


class Pdf:
    """The archive of policy `number` with `pages` pages; `size` in bytes, about 50 MB by default."""

    def __init__(self, number: int, pages: int = 800) -> None:
        self.number = number
        self.pages = pages
        self._page_size = len(self._page(0))
        self._head = self._opening()
        self._body_end = len(self._head) + pages * self._page_size
        self._tail = self._closing()
        self.size = self._body_end + len(self._tail)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `stop`, in parts of at most a page."""
        begin = 0
        for index in range(-1, self.pages + 1):
            end = begin + self._length(index)
            if begin < stop and end > start:
                yield self._part(index)[max(start - begin, 0) : stop - begin]
            begin = end

    def _length(self, index: int) -> int:
        if index < 0:
            return len(self._head)
        return self._page_size if index < self.pages else len(self._tail)

    def _part(self, index: int) -> bytes:
        if index < 0:
            return self._head
        return self._page(index) if index < self.pages else self._tail

    def _opening(self) -> bytes:
        kids = b" ".join(b"%d 0 R" % (4 + index * 3) for index in range(self.pages))
        self._objects = [
            b"1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n",
            b"2 0 obj\n<< /Type /Pages /Count %d /Kids [%s] >>\nendobj\n" % (self.pages, kids),
            b"3 0 obj\n<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>\nendobj\n",
        ]
        return b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + b"".join(self._objects)

    def _page(self, index: int) -> bytes:
        return b"".join(self._page_objects(index))

    def _page_objects(self, index: int) -> tuple[bytes, bytes, bytes]:
        first = 4 + index * 3
        page = (
            b"%08d 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %08d 0 R\n"
            b"/Resources << /Font << /F 3 0 R >> /XObject << /S %08d 0 R >> >> >>\nendobj\n"
            % (first, first + 1, first + 2)
        )
        text = b"%08d 0 obj\n<< /Length %d >>\nstream\n%s\nendstream\nendobj\n" % (
            first + 1,
            _TEXT,
            self._text(index),
        )
        scan = (
            b"%08d 0 obj\n<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray\n"
            b"/BitsPerComponent 8 /Length %d >>\nstream\n%s\nendstream\nendobj\n"
            % (first + 2, WIDTH, HEIGHT, WIDTH * HEIGHT, self._scan(index))
        )
        return page, text, scan

    def _text(self, index: int) -> bytes:
        policy = book.policy(self.number)
        lines = [
            f"Policy {policy['id']}   {policy['product']}   sheet {index + 1} of {self.pages}",
            f"Insured: {policy['holder']['name']}, {policy['holder']['address']['city']}",
            f"Period:  {policy['period']['from']} to {policy['period']['until']}",
            f"Premium: {policy['premium']['amount']} EUR a year",
        ]
        shown = "".join(f"({line}) Tj T*\n" for line in lines)
        drawn = f"BT /F 12 Tf 16 TL 56 780 Td\n{shown}ET\nq 480 0 0 496 56 180 cm /S Do Q\n"
        return drawn.encode("latin-1").ljust(_TEXT)

    def _scan(self, index: int) -> bytes:
        """Paper with lines of grey, which lie elsewhere on each page: no page repeats the one before."""
        shade = (self.number * 31 + index * 7) % 128
        rows = (bytes((shade + row,)) * WIDTH if row % 8 == index % 8 else b"\xf4" * WIDTH for row in range(128))
        return b"".join(rows) * (HEIGHT // 128)

    def _closing(self) -> bytes:
        """Cross-reference table and trailer (ISO 32000-1 §7.5.4 and §7.5.5); every entry is 20 bytes."""
        entries = [b"0000000000 65535 f \n"]
        place = len(self._head) - sum(map(len, self._objects))
        for size in self._sizes():
            entries.append(b"%010d 00000 n \n" % place)
            place += size
        trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
            len(entries),
            self._body_end,
        )
        return b"xref\n0 %d\n" % len(entries) + b"".join(entries) + trailer

    def _sizes(self) -> Iterator[int]:
        yield from map(len, self._objects)
        page = [len(part) for part in self._page_objects(0)]
        yield from page * self.pages
