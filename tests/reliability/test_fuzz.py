"""Whatever the bytes of a file, its reader returns or says clearly what is wrong: no crash, no hang, no blow-up."""

import contextlib
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reliability.readers import READERS, read, valid

EXAMPLES = 150
FILES = {name: valid(name) for name in READERS}


@st.composite
def damaged(draw, content):
    """The bytes of a file after a few cuts, changes and insertions."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 64)) | st.just(len(content)))
        content = content[:start] + draw(st.binary(max_size=32)) + content[end:]
    return content


@contextlib.contextmanager
def at_most(mib):
    """Checks the most memory that Python and NumPy had at once; a process's peak never falls. Pillow's own is not seen."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mib * 2**20
    finally:
        tracemalloc.stop()


def test_memory_that_is_given_back_is_counted():
    with pytest.raises(AssertionError), at_most(50):
        bytearray(60 * 2**20)


@pytest.mark.parametrize("name", READERS)
def test_a_valid_file_is_read(name):
    assert read(name, FILES[name])


@pytest.mark.parametrize("name", READERS)
def test_damaged_bytes_are_read_or_refused_in_words(name):
    @settings(max_examples=EXAMPLES, deadline=5000, database=None, derandomize=True)
    @given(damaged(FILES[name]) | st.binary(max_size=200))
    def check(content):
        with at_most(mib=400):
            read(name, content)

    check()


def test_a_small_pickle_takes_little_memory():
    """It announces its object number 2^27."""
    with at_most(mib=100):
        assert not read("cifar_python", b"\x80\x02}r\x00\x00\x00\x08.")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
)


@settings(max_examples=EXAMPLES, deadline=5000, database=None, derandomize=True)
@given(
    st.dictionaries(
        st.sampled_from(["data", "training", "output", "network", "x"]),
        st.dictionaries(st.sampled_from(["dataset", "epochs", "resolutions", "encoder", "y"]), json_values, max_size=3)
        | json_values,
    )
    | json_values
)
def test_any_json_is_a_config_or_is_refused_in_words(value):
    taken = read("config", json.dumps(value).encode())
    assert not taken or isinstance(value, dict)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"data":' * 5000, b"9" * 100_000, b'{"training": {"epochs": 1e999}}']
)
def test_json_that_would_exhaust_the_parser(content):
    assert not read("config", content)


@pytest.mark.parametrize("cells", [b"1_0,6,1,1,1", b"-1,-1,nan,inf,-inf"])
def test_odd_numbers_are_numbers(cells):
    assert read("table", FILES["table"] + cells + b"\n")


@pytest.mark.parametrize("cells", [b"1,2", b"1e400," * 5, b"\0,\0", b'"', b"9" * 5000])
def test_odd_cells_are_refused(cells):
    assert not read("table", FILES["table"] + cells + b"\n")
