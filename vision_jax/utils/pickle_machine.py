"""A pickle interpreter that can build plain data and nothing else.

Python's own ``pickle`` calls whatever a file names. This machine has no way to do that: it knows the
binary opcodes of protocols 2 to 5 (https://docs.python.org/3/library/pickletools.html), and every global
name is looked up in a table given by the caller, whose entries are the only things that a ``REDUCE`` can
apply. Memory is bounded by the length of the program: strings cannot be longer than the rest of the
file, the memo is a dictionary, and the number of opcodes is limited.
"""

import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_OPCODES = 1_000_000  # DenseNet-201 needs about 40,000
MAX_INT_BYTES = 32
MAX_DEPTH = 100


class PickleError(ValueError):
    """A pickle that is damaged, hostile, or of a kind that is not read here."""


@dataclass(frozen=True)
class Builder:
    """A global that ``REDUCE`` may apply: a function of the argument tuple that checks every argument."""

    build: Callable[[tuple], Any]


class Stateful:
    """What a ``Builder`` may return to be given its state later, by a ``BUILD``."""

    def set_state(self, state: Any) -> None:
        """Takes the state, or raises ``PickleError``."""
        raise NotImplementedError


class Machine:
    """One run over a pickle program.

    Args:
      data: The bytes that hold the program.
      position: Where the program starts.
      globals_: What each ``(module, name)`` stands for: a ``Builder`` or a plain marker value.
      persistent_load: Turns the tuple of a persistent id into a value; without it persistent ids are refused.
      advice: What follows when the file names anything else.
      byte_strings: Strings of Python 2 are ``bytes``, as they were; by default they are UTF-8 text.
    """

    def __init__(
        self,
        data: bytes,
        position: int,
        globals_: Mapping[tuple[str, str], Any],
        persistent_load: Callable[[tuple], Any] | None = None,
        *,
        advice: str = "",
        byte_strings: bool = False,
    ):
        self._data = data
        self._position = position
        self._globals = globals_
        self._persistent_load = persistent_load
        self._advice, self._byte_strings = advice, byte_strings
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # the stacks below each open MARK
        self._memo: dict[int, Any] = {}

    def run(self) -> tuple[Any, int]:
        """Returns the pickled value and the position after its STOP.

        Raises:
          PickleError: for anything but a well-formed program of allowed operations.
        """
        for _ in range(MAX_OPCODES):
            opcode = self._take(1)[0]
            if opcode == 0x2E:  # STOP
                if self._outer or len(self._stack) != 1:
                    raise PickleError("the pickle ends with a wrong number of values on its stack")
                return self._stack[0], self._position
            handler = _HANDLERS.get(opcode)
            if handler is None:
                raise PickleError(
                    f"pickle opcode {bytes([opcode])!r} at byte {self._position - 1} does not belong here"
                )
            handler(self)
        raise PickleError(f"the pickle has more than {MAX_OPCODES:,} instructions")

    # Reading the program.

    def _take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._data):
            raise PickleError("the pickle is cut off")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def _number(self, layout: str) -> int:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _line(self) -> str:
        # Names of globals are short; looking no further keeps a missing newline from costing a pass over
        # the file.
        end = self._data.find(b"\n", self._position, self._position + 256)
        if end < 0:
            raise PickleError("the pickle names a global of more than 255 bytes")
        return self._decoded(self._take(end + 1 - self._position)[:-1])

    @staticmethod
    def _decoded(raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise PickleError("the pickle holds a string that is not UTF-8") from None

    # The stack.

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack:
            raise PickleError("the pickle takes more values from its stack than it put there")
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack:
            raise PickleError("the pickle takes more values from its stack than it put there")
        return self._stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        if not self._outer:
            raise PickleError("the pickle closes a group that it never opened")
        items, self._stack = self._stack, self._outer.pop()
        return items

    # Opcodes.

    def _discard(self) -> None:
        self._pop()

    def _discard_to_mark(self) -> None:
        self._pop_to_mark()

    def _proto(self) -> None:
        version = self._number("<B")
        if not 2 <= version <= 5:
            raise PickleError(f"pickle protocol {version} is not read here; 2 to 5 are")

    def _frame(self) -> None:
        self._number("<Q")  # a hint for streaming readers

    def _mark(self) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _long(self, layout: str) -> None:
        length = self._number(layout)
        if not 0 <= length <= MAX_INT_BYTES:
            raise PickleError(f"the pickle holds an integer of {length} bytes; at most {MAX_INT_BYTES} are allowed")
        self._push(int.from_bytes(self._take(length), "little", signed=True))

    def _text(self, layout: str) -> None:
        self._push(self._decoded(self._take_sized(layout)))

    def _string(self, layout: str) -> None:
        raw = self._take_sized(layout)
        self._push(raw if self._byte_strings else self._decoded(raw))

    def _binary(self, layout: str) -> None:
        self._push(self._take_sized(layout))

    def _take_sized(self, layout: str) -> bytes:
        length = self._number(layout)
        if length < 0:
            raise PickleError("the pickle holds a string of negative length")
        return self._take(length)

    def _tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(items)))

    def _append(self) -> None:
        self._extend([self._pop()])

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise PickleError("the pickle appends to something that is not a list")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) not in (dict, OrderedDict):
            raise PickleError("the pickle sets items of something that is not a dictionary")
        target.update(pairs_of(items))

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _add_items(self) -> None:
        items = self._pop_to_mark()
        target = self._top()
        if type(target) is not set:
            raise PickleError("the pickle adds to something that is not a set")
        target.update(map(check_key, items))

    def _get(self, layout: str) -> None:
        index = self._number(layout)
        if index not in self._memo:
            raise PickleError(f"the pickle uses memo entry {index}, which it never stored")
        self._push(self._memo[index])

    def _put(self, index: int) -> None:
        self._memo[index] = self._top()

    def _global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise PickleError("the pickle names a global by something that is not text")
        if (module, name) not in self._globals:
            raise PickleError(
                f"the pickle asks for {f'{module}.{name}'[:160]!r}, which is code, not data{self._advice}"
            )
        self._push(self._globals[module, name])

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._global(module, name)

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if type(function) is not Builder or type(arguments) is not tuple:
            raise PickleError("the pickle calls something that is not a tensor or container")
        self._push(function.build(arguments))

    def _build(self) -> None:
        # A state dict carries its module versions as an attribute, and parameters of 2017 their
        # requires_grad flag; neither matters here, and nothing else may have a state.
        state, target = self._pop(), self._top()
        if isinstance(target, Stateful):
            target.set_state(state)
            return
        allowed = (type(target) is OrderedDict and type(state) is dict) or (
            isinstance(target, np.ndarray) and type(state) is tuple
        )
        if not allowed:
            raise PickleError("the pickle sets the state of something that is not a tensor or container")

    def _persistent_id(self) -> None:
        identifier = self._pop()
        if self._persistent_load is None or type(identifier) is not tuple:
            raise PickleError("the pickle has a persistent id where none belongs")
        self._push(self._persistent_load(identifier))


def check_key(key: Any) -> Any:
    """Returns a dictionary key or set item unchanged; only scalars that do not share their hashes are allowed.

    The hash of an integer is its remainder by 2**61 - 1: a dictionary of multiples of that takes quadratic time.
    """
    if key is not None and type(key) not in (str, bytes, int, float, bool):
        raise PickleError(f"the pickle uses a {type(key).__name__} as a key; only text and numbers are allowed")
    if type(key) is int and abs(key) >= sys.hash_info.modulus:
        raise PickleError(f"the pickle uses an integer of {key.bit_length()} bits as a key")
    return key


def pairs_of(items: list[Any]) -> list[tuple[Any, Any]]:
    """Returns key, value, key, value, … as pairs."""
    if len(items) % 2:
        raise PickleError("the pickle has a dictionary key without a value")
    return [(check_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True)]


def check_plain(value: Any, program_bytes: int) -> None:
    """Refuses values that are not plain data, that contain themselves, or that aliases blow up.

    A few bytes of pickle can describe a list of lists of lists that holds itself or has 2**1000 leaves;
    whoever walks it never returns. The walk here gives up once it has seen far more items than the
    program can have spelled out.
    """
    budget = 8 * program_bytes + 1000
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        budget -= 1
        if budget < 0 or depth > MAX_DEPTH:
            raise PickleError("the pickle's containers hold themselves, or are nested too deep")
        if isinstance(item, dict):
            pending += [(child, depth + 1) for child in item.values()]
        elif isinstance(item, list | tuple):
            pending += [(child, depth + 1) for child in item]
        elif item is not None and not isinstance(
            item, bool | int | float | str | bytes | set | frozenset | np.ndarray | np.dtype
        ):
            raise PickleError("the pickle's value holds something that is neither a tensor nor plain data")


_HANDLERS: dict[int, Callable[[Machine], None]] = {
    ord(code): handler
    for code, handler in {
        "\x80": Machine._proto,
        "\x95": Machine._frame,
        "(": Machine._mark,
        "0": Machine._discard,
        "1": Machine._discard_to_mark,
        "2": lambda m: m._push(m._top()),
        "N": lambda m: m._push(None),
        "\x88": lambda m: m._push(True),
        "\x89": lambda m: m._push(False),
        "J": lambda m: m._push(m._number("<i")),
        "K": lambda m: m._push(m._number("<B")),
        "M": lambda m: m._push(m._number("<H")),
        "G": lambda m: m._push(m._number(">d")),
        "\x8a": lambda m: m._long("<B"),
        "\x8b": lambda m: m._long("<i"),
        "U": lambda m: m._string("<B"),  # Python 2 strings: the names in old files
        "T": lambda m: m._string("<i"),
        "X": lambda m: m._text("<I"),
        "\x8c": lambda m: m._text("<B"),
        "\x8d": lambda m: m._text("<Q"),
        "C": lambda m: m._binary("<B"),
        "B": lambda m: m._binary("<I"),
        "\x8e": lambda m: m._binary("<Q"),
        "\x96": lambda m: m._binary("<Q"),
        ")": lambda m: m._push(()),
        "t": lambda m: m._push(tuple(m._pop_to_mark())),
        "\x85": lambda m: m._tuple_of(1),
        "\x86": lambda m: m._tuple_of(2),
        "\x87": lambda m: m._tuple_of(3),
        "]": lambda m: m._push([]),
        "l": lambda m: m._push(m._pop_to_mark()),
        "a": Machine._append,
        "e": lambda m: m._extend(m._pop_to_mark()),
        "}": lambda m: m._push({}),
        "d": lambda m: m._push(dict(pairs_of(m._pop_to_mark()))),
        "s": Machine._set_item,
        "u": lambda m: m._set_items(m._pop_to_mark()),
        "\x8f": lambda m: m._push(set()),
        "\x90": Machine._add_items,
        "\x91": lambda m: m._push(frozenset(map(check_key, m._pop_to_mark()))),
        "h": lambda m: m._get("<B"),
        "j": lambda m: m._get("<I"),
        "q": lambda m: m._put(m._number("<B")),
        "r": lambda m: m._put(m._number("<I")),
        "\x94": lambda m: m._put(len(m._memo)),
        "c": lambda m: m._global(m._line(), m._line()),
        "\x93": Machine._stack_global,
        "R": Machine._reduce,
        "b": Machine._build,
        "Q": Machine._persistent_id,
    }.items()
}
