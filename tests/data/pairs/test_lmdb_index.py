"""LMDB index: the same keys and values as the package lmdb, and no damage that is not told."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np
import pytest

from deflow_cli.data.pairs.lmdb_index import read_index
from deflow_cli.errors import DataError


def values(count: int, largest: int, seed: int) -> dict[bytes, bytes]:
    rng = np.random.default_rng(seed)
    return {b"%07d" % i: rng.bytes(int(rng.integers(largest))) for i in range(count)}


def make(folder: Path, *transactions: dict[bytes, bytes], removed: tuple[bytes, ...] = ()) -> Path:
    with lmdb.open(str(folder), map_size=1 << 28) as environment:
        for content in transactions:
            with environment.begin(write=True) as transaction:
                for key, value in content.items():
                    transaction.put(key, value)
        if removed:
            with environment.begin(write=True) as transaction:
                for key in removed:
                    transaction.delete(key)
    return folder / "data.mdb"


def read(path: Path) -> dict[bytes, bytes]:
    data = path.read_bytes()
    return {key: data[place.offset :][: place.size] for key, place in read_index(path).items()}


@pytest.mark.parametrize(
    ("count", "largest"), [(0, 1), (1, 50_000), (40, 3000), (3000, 9), (3000, 500), (600, 20_000)]
)
def test_keys_and_values_are_those_of_the_package(tmp_path: Path, count: int, largest: int) -> None:
    content = values(count, largest, seed=count)
    assert read(make(tmp_path / "db", content)) == content


def test_the_last_transaction_counts(tmp_path: Path) -> None:
    first, second = values(300, 6000, 1), values(200, 6000, 2)
    removed = tuple(first)[250:]
    found = read(make(tmp_path / "db", first, second, removed=removed))
    assert found == {key: value for key, value in (first | second).items() if key not in removed}
    assert list(found) == sorted(found)


def test_a_file_cut_short_anywhere_is_told(tmp_path: Path) -> None:
    path = make(tmp_path / "lq.lmdb", values(60, 6000, 3))
    whole = path.read_bytes()
    for size in (0, 1, 100, 4096, 8191, 8192, 20_000, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"lq\.lmdb: ") as caught:
            read_index(path)
        assert "anew" in caught.value.next_step
        if size > 8192:
            assert f"incomplete: data.mdb has {size} of " in str(caught.value)


def test_damage_is_an_error_or_other_values_but_nothing_else(tmp_path: Path) -> None:
    """Random bytes in the pages of the tree: no other exception, no place outside the file."""
    path = make(tmp_path / "db", values(400, 900, 4))
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    told = 0
    for _ in range(300):
        data = bytearray(whole)
        page = int(rng.integers(len(whole) // 4096))
        for _ in range(4):
            data[page * 4096 + int(rng.integers(40))] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            places = read_index(path)
        except DataError:
            told += 1
        else:
            assert all(place.offset + place.size <= len(whole) for place in places.values())
    assert told > 100


def test_what_is_no_lmdb_of_files(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    with pytest.raises(DataError, match="not a readable LMDB"):
        read_index(tmp_path / "db/data.mdb")
    (tmp_path / "db/data.mdb").write_bytes(b"no" * 9000)
    with pytest.raises(DataError, match="not a readable LMDB"):
        read_index(tmp_path / "db/data.mdb")
    with lmdb.open(str(tmp_path / "named"), max_dbs=1) as environment:
        named = environment.open_db(b"inner")
        with environment.begin(write=True, db=named) as transaction:
            transaction.put(b"a", b"b")
    with pytest.raises(DataError, match="a database in itself"):
        read_index(tmp_path / "named/data.mdb")
