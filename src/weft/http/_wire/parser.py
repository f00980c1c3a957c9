"""HTTP/1 responses from bytes (RFC 9112), strictly: what two readers could understand differently is an error.

Owns the position in one response. Its invariant: how a response is cut into packets changes nothing of what comes out.
It does no I/O: a connection feeds it, and it feeds an ``Incoming``. Every byte of a head is checked as its line comes;
the head is then kept as one object, with what decides on framing and policy noted, and its fields are parsed when
someone looks (``Headers.from_head``).

Refused, beside what the grammar has no room for: lines that end in a bare LF (2.2), folded lines (5.2), white space
before a colon (5.1), a body's length twice and different, or together with a transfer coding (6.3), transfer codings
other than ``chunked`` (6.1), either of them in a trailer, and chunk sizes with anything around their digits (7.1).
"""

import cython
from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.libc.string import memchr, memcmp
from cython.cimports.weft.http._wire.incoming import (
    HAS_CHALLENGE,
    HAS_CODING,
    HAS_COOKIES,
    HAS_LOCATION,
    SAYS_CLOSE,
    SAYS_KEEP_ALIVE,
    SAYS_UPGRADE,
)

from weft.http.errors import PeerProtocolError

# What a head, a trailer, or the extensions of one chunk may take, in bytes. nginx sends up to 8 KiB per line,
# node takes 16 KiB in all, Go's client 1 MiB; cookies of real sites need up to 20 KiB.
MOST_HEAD = cython.declare(cython.Py_ssize_t, 64 * 1024)
MOST_FIELDS = cython.declare(cython.int, 512)
# Responses of the kind 1xx before the real one.
MOST_INTERIM = cython.declare(cython.int, 32)
# Hexadecimal digits of a chunk's size: 2**60 is more than anyone sends, and still no overflow.
MOST_DIGITS = cython.declare(cython.int, 15)
# Decimal digits of a length.
MOST_LENGTH = cython.declare(cython.int, 18)

TOKEN = cython.declare(cython.uchar[256])
TEXT = cython.declare(cython.uchar[256])
HEX = cython.declare(cython.schar[256])

CR = cython.declare(cython.uchar, 13)
LF = cython.declare(cython.uchar, 10)


def _fill_tables():
    i: cython.int
    for i in range(256):
        # RFC 9110, 5.6.2: token; 5.5: a field's value is visible characters, blanks, tabs, and bytes from 0x80 on.
        TOKEN[i] = 48 <= i <= 57 or 65 <= i <= 90 or 97 <= i <= 122 or chr(i) in "!#$%&'*+-.^_`|~"
        TEXT[i] = i == 9 or 32 <= i != 127
        HEX[i] = int(chr(i), 16) if chr(i) in "0123456789abcdefABCDEF" else -1


_fill_tables()


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
@cython.nogil
def is_word(text: cython.p_const_uchar, word: cython.p_const_char, size: cython.Py_ssize_t) -> cython.bint:
    """Whether ``text`` is the lower-case ``word`` in any case. Only for words of letters and hyphens."""
    i: cython.Py_ssize_t
    for i in range(size):
        if text[i] != word[i] and (text[i] | 32) != word[i]:
            return False
    return True


class ResponseParser:
    """One HTTP/1 response after the other, each begun with ``start``."""

    def __init__(self):
        self.step = DONE
        self.kept = bytearray()

    def begin(self, incoming, has_no_body=False, may_switch=False, may_tunnel=False):
        """As ``start``, from Python."""
        self.start(incoming, has_no_body, may_switch, may_tunnel)

    def receive(self, data):
        """As ``feed``, from Python: how many bytes of ``data`` belong to the response."""
        return self.feed(data)

    def close(self):
        """As ``end``, from Python."""
        return self.end()

    def start(self, incoming, has_no_body, may_switch, may_tunnel):
        """The next response goes to ``incoming``.

        ``has_no_body``: it answers a HEAD. ``may_switch``: a 101 is asked for. ``may_tunnel``: it answers a CONNECT.
        """
        self.incoming = incoming
        self.has_no_body = has_no_body
        self.may_switch = may_switch
        self.may_tunnel = may_tunnel
        self.interim = 0
        self.is_reusable = False
        if self.kept:  # of a head that never ended
            self.kept.clear()
        self.reset_head()
        return 0

    def reset_head(self):
        self.step = STATUS_LINE
        self.fields = 0
        self.notes = 0
        self.length = -1
        self.is_chunked = False
        self.line_start = self.searched = 0
        return 0

    def feed(self, data):
        """Take ``data``; returns how many bytes of it belong to this response (all of them, until it is DONE).

        Raises:
            PeerProtocolError: it is no HTTP, or ambiguous.
        """
        at: cython.Py_ssize_t = 0
        size: cython.Py_ssize_t = len(data)
        # SAFETY: the caller holds `data`.
        text: cython.p_const_uchar = cython.cast(cython.p_const_uchar, PyBytes_AS_STRING(data))
        while at < size and self.step < DONE:
            if self.step == STATUS_LINE or self.step == FIELDS or self.step == TRAILER:
                at = self.take_lines(data, at)
            elif self.step == DATA or self.step == LENGTH or self.step == UNTIL_CLOSE:
                at = self.body(data, at)
            else:
                at = self.chunk_framing(text, at, size)
        return at

    def end(self):
        """The peer sends no more; returns whether the response is complete."""
        if self.step == UNTIL_CLOSE:
            self.step = DONE
        return self.step >= DONE

    # -- heads and trailers --------------------------------------------------------------------------------------------

    def take_lines(self, data, at):
        """Take lines up to the empty one; what is incomplete is kept."""
        size: cython.Py_ssize_t = len(data)
        done: cython.Py_ssize_t
        had: cython.Py_ssize_t = len(self.kept)
        if had == 0:
            # SAFETY: `data` is held by the caller, and `at` is less than its size.
            start = cython.cast(cython.p_const_uchar, PyBytes_AS_STRING(data)) + at
            done = self.lines(start, size - at)
            if done < 0:
                self.kept += data[at:] if at else data
                return size
            self.lines_done(data[at : at + done] if at or at + done < size else data)
            return at + done
        self.kept += data[at:] if at else data
        # SAFETY: nothing changes `kept` while its bytes are looked at.
        whole = cython.cast(cython.p_const_uchar, PyByteArray_AS_STRING(self.kept))
        done = self.lines(whole, len(self.kept))
        if done < 0:
            return size
        # SAFETY: the same; `done` is at most its size.
        block = PyBytes_FromStringAndSize(cython.cast(cython.p_const_char, PyByteArray_AS_STRING(self.kept)), done)
        self.kept.clear()
        self.lines_done(block)
        return at + done - had

    def lines(self, text, size):
        """Check the lines that are complete; returns where the empty line ends, or -1 if it is not there yet."""
        found: cython.p_const_uchar
        end: cython.Py_ssize_t
        if self.step == STATUS_LINE and self.line_start == 0 and memcmp(text, b"HTTP/1.", min(size, 7)) != 0:
            self.refuse("it does not begin with 'HTTP/1.'")
        while True:
            # SAFETY: `searched` is at most `size`, and what is found is in `text`.
            found = cython.cast(
                cython.p_const_uchar, memchr(text + self.searched, LF, cython.cast(cython.size_t, size - self.searched))
            )
            if found == cython.NULL:
                self.searched = size
                if size > MOST_HEAD:
                    self.refuse(f"more than {MOST_HEAD} bytes of header fields")
                return -1
            end = found - text
            if end >= MOST_HEAD:
                self.refuse(f"more than {MOST_HEAD} bytes of header fields")
            if end == self.line_start or text[end - 1] != CR:
                self.refuse("a line ends in a bare LF")
            self.searched = end + 1
            size_of_line: cython.Py_ssize_t = end - 1 - self.line_start
            if size_of_line == 0 and self.step != STATUS_LINE:
                self.line_start = self.searched = 0
                return end + 1
            self.line(text + self.line_start, size_of_line)
            self.line_start = end + 1

    def line(self, text, size):
        if self.step == STATUS_LINE:
            self.status_line(text, size)
            self.step = FIELDS
            return 0
        self.fields += 1
        if self.fields > MOST_FIELDS:
            self.refuse(f"more than {MOST_FIELDS} header fields")
        return self.field_line(text, size)

    def lines_done(self, block):
        if self.step == TRAILER:
            if len(block) > 2:
                self.incoming.keep_trailer(block)
            self.step = DONE
        else:
            self.head_done(block)
        return 0

    def status_line(self, text, size):
        """RFC 9112, 4: ``HTTP/1.1 200 OK``; the reason may be left out, with its blank too."""
        i: cython.Py_ssize_t
        if size < 12 or text[8] != 32 or (text[7] != 48 and text[7] != 49) or (size > 12 and text[12] != 32):
            self.refuse("its status line is not 'HTTP/1.x NNN reason'")
        for i in range(9, 12):
            if not 48 <= text[i] <= 57:
                self.refuse("its status is not three digits")
        for i in range(12, size):
            if not TEXT[text[i]]:
                self.refuse("a control character in the status line")
        self.version = 10 + (text[7] - 48)
        self.status = (text[9] - 48) * 100 + (text[10] - 48) * 10 + text[11] - 48
        if self.status < 100:
            self.refuse(f"its status is {self.status:03}")
        return 0

    def field_line(self, text, size):
        """RFC 9112, 5: ``name: value``."""
        name: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t
        while name < size and TOKEN[text[name]]:
            name += 1
        if name == size or text[name] != 58 or name == 0:
            if text[0] == 32 or text[0] == 9:
                self.refuse("a folded header line")
            self.refuse("a header line that is not 'name: value'")
        i = name + 1
        while i < size and (text[i] == 32 or text[i] == 9):
            i += 1
        value: cython.Py_ssize_t = i
        while i < size:
            if not TEXT[text[i]]:
                self.refuse("a control character in a header field")
            i += 1
        while i > value and (text[i - 1] == 32 or text[i - 1] == 9):
            i -= 1
        if self.step == FIELDS:
            self.note_field(text, name, text + value, i - value)
        elif (name == 14 and is_word(text, b"content-length", 14)) or (
            name == 17 and is_word(text, b"transfer-encoding", 17)
        ):
            self.refuse("a trailer that says how long the body is")  # RFC 9110, 6.5.1
        return 0

    def note_field(self, name, name_size, value, size):
        """Remember what decides on framing and policy."""
        if name_size == 14 and is_word(name, b"content-length", 14):
            self.note_length(value, size)
        elif name_size == 17 and is_word(name, b"transfer-encoding", 17):
            if self.is_chunked or size != 7 or not is_word(value, b"chunked", 7):
                self.refuse("a transfer coding other than 'chunked'")
            self.is_chunked = True
        elif name_size == 10:
            if is_word(name, b"connection", 10):
                self.note_connection(value, size)
            elif is_word(name, b"set-cookie", 10):
                self.notes |= HAS_COOKIES
        elif name_size == 16:
            if is_word(name, b"content-encoding", 16):
                self.notes |= HAS_CODING
            elif is_word(name, b"www-authenticate", 16):
                self.notes |= HAS_CHALLENGE
        elif name_size == 18 and is_word(name, b"proxy-authenticate", 18):
            self.notes |= HAS_CHALLENGE
        elif name_size == 8 and is_word(name, b"location", 8):
            self.notes |= HAS_LOCATION
        return 0

    def note_length(self, value, size):
        """RFC 9112, 6.3: a length that is no number, or is there twice and different, ends the connection."""
        length: cython.longlong = 0
        i: cython.Py_ssize_t
        if not 0 < size <= MOST_LENGTH:
            self.refuse("a Content-Length that is not a number of bytes")
        for i in range(size):
            if not 48 <= value[i] <= 57:
                self.refuse("a Content-Length that is not a number of bytes")
            length = length * 10 + (value[i] - 48)
        # Compared as they are written: "5" and "05" are one number, and not to everyone.
        if self.length >= 0 and (self.length != length or self.length_digits != size):
            self.refuse("two different Content-Lengths")
        self.length = length
        self.length_digits = size
        return 0

    def note_connection(self, value, size):
        start: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t
        for i in range(size + 1):
            if i < size and value[i] != 44:
                continue
            end: cython.Py_ssize_t = i
            while start < end and (value[start] == 32 or value[start] == 9):
                start += 1
            while end > start and (value[end - 1] == 32 or value[end - 1] == 9):
                end -= 1
            if end - start == 5 and is_word(value + start, b"close", 5):
                self.notes |= SAYS_CLOSE
            elif end - start == 10 and is_word(value + start, b"keep-alive", 10):
                self.notes |= SAYS_KEEP_ALIVE
            elif end - start == 7 and is_word(value + start, b"upgrade", 7):
                self.notes |= SAYS_UPGRADE
            start = i + 1
        return 0

    def head_done(self, head):
        if self.status < 200 and not (self.status == 101 and self.may_switch):
            self.interim += 1
            if self.status == 101:
                self.refuse("it switches protocols unasked")
            if self.interim > MOST_INTERIM:
                self.refuse(f"more than {MOST_INTERIM} interim responses")
            if self.is_chunked or self.length > 0:
                self.refuse("an interim response with a body")
            self.incoming.has_moved = True
            self.reset_head()
            return 0
        self.choose_framing()
        self.incoming.answer_head(head, self.status, self.version, self.notes)
        return 0

    def choose_framing(self):
        """RFC 9112, 6.3: how the end of the body will be known."""
        if self.is_chunked and (self.length >= 0 or self.version == 10):
            self.refuse("a transfer coding together with a Content-Length, or in HTTP/1.0")
        self.is_reusable = not self.notes & SAYS_CLOSE and (self.version == 11 or self.notes & SAYS_KEEP_ALIVE != 0)
        if self.status == 101 or (self.may_tunnel and 200 <= self.status < 300):
            self.step = SWITCHED
        elif self.has_no_body or self.status == 204 or self.status == 304:
            self.step = DONE
        elif self.is_chunked:
            self.step = SIZE
            self.digits = 0
        elif self.length >= 0:
            self.left = self.length
            self.step = LENGTH if self.length else DONE
        else:
            self.step = UNTIL_CLOSE
            self.is_reusable = False
        return 0

    # -- bodies --------------------------------------------------------------------------------------------------------

    def body(self, data, at):
        """Pass on as much of ``data`` from ``at`` on as belongs to the body, or to this chunk of it."""
        size: cython.Py_ssize_t = len(data)
        end: cython.Py_ssize_t = size
        if self.step != UNTIL_CLOSE:
            if self.left < size - at:
                end = at + self.left
            self.left -= end - at
        self.incoming.feed(data if at == 0 and end == size else data[at:end])
        if self.step != UNTIL_CLOSE and self.left == 0:
            self.step = DATA_CR if self.step == DATA else DONE
        return end

    def chunk_framing(self, text, at, size):
        """RFC 9112, 7.1: what stands around the data of chunks, byte for byte."""
        while at < size:
            byte: cython.uchar = text[at]
            if self.step == SIZE:
                self.size_byte(byte)
            elif self.step == EXTENSION:
                self.extension += 1
                if byte == CR:
                    self.step = SIZE_END
                elif not TEXT[byte] or self.extension > MOST_HEAD:
                    self.refuse("a chunk extension with a control character, or too many of them")
            elif self.step == DATA_CR:
                if byte != CR:
                    self.refuse("a chunk that is longer than its size")
                self.step = DATA_LF
            else:  # the LF that a CR announced
                if byte != LF:
                    self.refuse("a CR without its LF around a chunk")
                if self.step == SIZE_END and self.left:
                    self.step = DATA
                elif self.step == SIZE_END:
                    self.step = TRAILER
                    self.fields = 0
                    self.line_start = self.searched = 0
                else:
                    self.step = SIZE
                self.digits = 0
                if self.step != SIZE:
                    return at + 1
            at += 1
        return at

    def size_byte(self, byte):
        """A byte of a chunk's size, or what ends it."""
        digit: cython.int = HEX[byte]
        if digit >= 0:
            self.left = digit if self.digits == 0 else self.left * 16 + digit
            self.digits += 1
            if self.digits > MOST_DIGITS:
                self.refuse("a chunk size of too many digits")
        elif self.digits and (byte == 59 or byte == CR):
            self.step = EXTENSION if byte == 59 else SIZE_END
            self.extension = 0
        else:
            self.refuse("a chunk size that is not a hexadecimal number")
        return 0

    def refuse(self, reason):
        """End with an error; the connection is of no further use."""
        self.step = DONE
        self.is_reusable = False
        self.kept.clear()
        raise PeerProtocolError(f"the response is not valid HTTP: {reason}", url=self.incoming.request.url)
