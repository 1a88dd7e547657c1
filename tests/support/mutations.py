"""Files that were damaged, or made by somebody who means harm."""
from __future__ import annotations

from hypothesis import strategies as st

_NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


@st.composite
def mutated(draw, originals):
    """One of some files with one to six changes, most of them near its beginning, where headers are."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 6))):
        last = max(len(data) - 1, 0)
        at = draw(st.one_of(st.integers(0, min(last, 64)), st.integers(0, min(last, 512)), st.integers(0, last)))
        match draw(st.sampled_from(['bytes', 'bit', 'number', 'number', 'zeros', 'cut', 'remove', 'repeat', 'insert'])):
            case 'bytes':
                new = draw(st.binary(min_size=1, max_size=8))
                data[at:at + len(new)] = new
            case 'bit' if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 'number':
                size = draw(st.sampled_from([1, 2, 4, 8]))
                number = draw(st.sampled_from(_NUMBERS)) % 256 ** size
                data[at:at + size] = number.to_bytes(size, draw(st.sampled_from(['little', 'big'])))
            case 'zeros':
                count = draw(st.integers(1, 64))
                data[at:at + count] = bytes(min(count, len(data) - at))
            case 'cut':
                del data[at:]
            case 'remove':
                del data[at:at + draw(st.integers(1, 64))]
            case 'repeat':
                data[at:at] = data[at:at + draw(st.integers(1, 64))]
            case 'insert':
                data[at:at] = draw(st.binary(min_size=1, max_size=64))
    return bytes(data)


#: Any value that a JSON file may hold.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8)
    | st.sampled_from(['0/0', '1/0', '-1', '1e999', '99999999999999999999', 'N/A', '']),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=8), values, max_size=4),
    max_leaves=8)


@st.composite
def mutated_json(draw, value):
    """A JSON value with some of its parts left out or replaced, wherever they are in it."""
    if draw(st.integers(0, 19)) == 0:
        return draw(JSON)
    if isinstance(value, dict):
        return {key: draw(mutated_json(item)) for key, item in value.items() if draw(st.integers(0, 14))}
    if isinstance(value, list):
        return [draw(mutated_json(item)) for item in value if draw(st.integers(0, 14))]
    return value
