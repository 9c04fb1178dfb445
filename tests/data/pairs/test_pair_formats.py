"""Pair formats: others' readers and ours read what we write, the same bytes after any interruption."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import pickle
import re
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import lmdb
import numpy as np
import pytest

from deflow_cli.arrays import Window
from deflow_cli.data.crops import check_crop, crop_windows
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.pairs.formats import FORMATS, clear_pairs, make_writer, open_pairs, pair_name, side_files
from deflow_cli.data.pairs.records import EncodedPair, PairSlot, decode_rgb8, encode_png
from deflow_cli.errors import ConfigError, DataError

IMAGES, CROPS = 5, 2


@pytest.fixture(scope="module")
def pairs():
    """Ten pairs of noise at scale 2, two of each image."""
    rng = np.random.default_rng(0)
    found = []
    for image in range(IMAGES):
        for crop in range(CROPS):
            slot = PairSlot(pair_name(image, crop=crop), image, (24, 32), (12, 16), {"seed": image})
            gt, lq = (
                rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in (slot.gt_size, slot.lq_size)
            )
            found.append(EncodedPair(slot, encode_png(gt), encode_png(lq)))
    return found


def slots(pairs):
    return [pair.slot for pair in pairs]


def write(kind, target, pairs, stop=None):
    """Write what is missing, image by image; ``stop``: be interrupted after so many images."""
    target.mkdir(exist_ok=True)
    writer = make_writer(kind, target, slots(pairs))
    try:
        missing = writer.missing()
        for image in range(IMAGES):
            own = [pair for pair in pairs if pair.slot.image == image and pair.slot.key in missing]
            if stop == image:
                return missing
            if own:
                writer.write(own)
        writer.finish()
    finally:
        writer.close()
    return missing


def files(target):
    return {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in sorted(target.rglob("*"))
        if path.is_file() and ".deflow-tmp" not in path.parts
    }


@pytest.fixture(params=FORMATS)
def stored(request, tmp_path, pairs):
    write(request.param, tmp_path / "set", pairs)
    return tmp_path / "set"


def test_our_reader_gives_back_what_was_written(stored, pairs):
    found = open_pairs(stored)
    assert (len(found), found.scale) == (len(pairs), 2)
    assert list(found.keys) == [pair.slot.key for pair in pairs]
    for index in (7, 0, 9, -1):
        expected = pairs[index]
        key, gt, lq = found[index]
        assert key == expected.slot.key
        assert found.encoded(index % len(pairs)) == (expected.gt, expected.lq)
        assert np.array_equal(gt, decode_rgb8(expected.gt, ""))
        assert np.array_equal(lq, decode_rgb8(expected.lq, ""))
        assert (gt.dtype, gt.shape, lq.shape) == (np.uint8, (24, 32, 3), (12, 16, 3))
    assert [pair.key for pair in found] == [pair.slot.key for pair in pairs]
    assert [pair.key for pair in found[2:5]] == [pair.slot.key for pair in pairs[2:5]]
    with pytest.raises(IndexError):
        found[10]


def _sum(found, index):
    return int(found[index].gt.sum())


def test_our_reader_works_in_other_processes(stored):
    found = open_pairs(stored)
    expected = [_sum(found, index) for index in range(4)]  # opened here, before the fork
    assert [_sum(pickle.loads(pickle.dumps(found)), index) for index in range(4)] == expected
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork on this system")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.starmap(_sum, [(found, index) for index in range(4)]) == expected
    assert _sum(found, 0) == expected[0]


def test_threads_read_lmdb_at_once(tmp_path, pairs):
    write("lmdb", tmp_path / "set", pairs)
    found = [open_pairs(tmp_path / "set") for _ in range(2)]
    expected = [_sum(found[0], index) for index in range(10)]
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda n: _sum(found[n % 2], n % 10), range(200)))
    assert sums == expected * 20


@pytest.mark.parametrize("kind", FORMATS)
def test_interrupted_and_resumed_is_bitwise_the_same(kind, tmp_path, pairs):
    write(kind, tmp_path / "whole", pairs)
    assert len(write(kind, tmp_path / "parts", pairs, stop=2)) == 10
    left = write(kind, tmp_path / "parts", pairs, stop=4)
    assert len(left) == (10 if kind == "webdataset" else 6)  # a shard is written as a whole
    write(kind, tmp_path / "parts", pairs)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("*.*") if path.is_file()}
    assert write(kind, tmp_path / "parts", pairs) == set()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_half_a_file_is_not_taken_for_a_whole_one(tmp_path, pairs):
    write("folders", tmp_path / "set", pairs)
    whole = files(tmp_path / "set")
    path = tmp_path / "set/lq/0000003_s001.png"
    path.write_bytes(path.read_bytes()[:-20])
    assert write("folders", tmp_path / "set", pairs) == {"0000003_s001"}
    assert files(tmp_path / "set") == whole


@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk_is_told_and_writing_goes_on_afterwards(kind, tmp_path, pairs, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    places = {
        "folders": "deflow_cli.data.pairs.records.os.replace",
        "webdataset": "tarfile.TarFile.addfile",
        "lmdb": "deflow_cli.data.pairs.lmdb.os.truncate",
    }
    with monkeypatch.context() as patch:
        patch.setattr(places[kind], full)
        with pytest.raises(DataError, match="No space left on device") as caught:
            write(kind, tmp_path / "set", pairs)
    assert "make room" in caught.value.next_step
    if kind == "lmdb":  # found out before the map would grow, which ends a process without a word
        with monkeypatch.context() as patch:
            patch.setattr(
                "deflow_cli.data.pairs.lmdb.shutil.disk_usage", lambda path: SimpleNamespace(free=9)
            )
            with pytest.raises(DataError, match="cannot be packed"):
                write(kind, tmp_path / "set", pairs)
    write(kind, tmp_path / "set", pairs)
    write(kind, tmp_path / "whole", pairs)
    assert files(tmp_path / "set") == files(tmp_path / "whole")


def test_lmdb_reads_as_basicsr_does(tmp_path, pairs):
    write("lmdb", tmp_path / "set", pairs)
    sizes = {"gt": (24, 32), "lq": (12, 16)}
    keys = {}
    for side, (height, width) in sizes.items():
        folder = tmp_path / "set" / f"{side}.lmdb"
        assert {path.name for path in folder.iterdir()} == {"data.mdb", "lock.mdb", "meta_info.txt"}
        lines = (folder / "meta_info.txt").read_text().splitlines()
        assert lines[0] == f"0000001_s001.png ({height},{width},3) 1"
        keys[side] = [line.split(".")[0] for line in lines]
        environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
        for pair in pairs:
            with environment.begin(write=False) as transaction:
                value = transaction.get(pair.slot.key.encode("ascii"))
            image = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_COLOR)
            expected = decode_rgb8(pair.gt if side == "gt" else pair.lq, "")
            assert np.array_equal(image[..., ::-1], expected)
        assert environment.stat()["entries"] == len(pairs)
        environment.close()
    assert keys["gt"] == keys["lq"] == [pair.slot.key for pair in pairs]


def test_lmdb_opens_with_its_lock_and_can_be_written_to(tmp_path, pairs):
    write("lmdb", tmp_path / "set", pairs)
    with (
        lmdb.open(str(tmp_path / "set/gt.lmdb")) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"another", b"1")
        assert transaction.get(b"0000001_s001") == pairs[0].gt


def test_lmdb_does_not_leak_memory_into_its_file(tmp_path, pairs):
    """Unused ends of pages are zero: two writers with unlike memory agree."""
    write("lmdb", tmp_path / "one", pairs)
    junk = [np.full(5000 + i, 255, np.uint8) for i in range(2000)]
    del junk
    write("lmdb", tmp_path / "two", pairs)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert (tmp_path / "one/gt.lmdb/data.mdb").stat().st_size < 30 * 4096


def test_webdataset_reads_as_webdataset_does(tmp_path, pairs):
    import webdataset

    write("webdataset", tmp_path / "set", pairs)
    shard = str(tmp_path / "set/000000.tar")
    samples = list(webdataset.WebDataset(shard, shardshuffle=False, empty_check=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == [pair.slot.key for pair in pairs]
    for sample, pair in zip(samples, pairs, strict=True):
        assert np.array_equal(sample["gt.png"], decode_rgb8(pair.gt, ""))
        assert np.array_equal(sample["lq.png"], decode_rgb8(pair.lq, ""))
        assert sample["json"] == {"key": pair.slot.key, "seed": pair.slot.image}


def test_shards_are_filled_with_whole_images(tmp_path, pairs, monkeypatch):
    monkeypatch.setattr("deflow_cli.data.pairs.webdataset.SHARD_PAIRS", 3)
    write("webdataset", tmp_path / "set", pairs, stop=3)
    assert [path.name for path in sorted((tmp_path / "set").glob("*.tar"))] == ["000000.tar"]
    stamp = (tmp_path / "set/000000.tar").stat().st_mtime_ns
    assert len(write("webdataset", tmp_path / "set", pairs)) == 6
    assert (tmp_path / "set/000000.tar").stat().st_mtime_ns == stamp
    held = []
    for path in sorted((tmp_path / "set").glob("*.tar")):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
            (0, 0, 0, "", "", 0o644)
        }
        held.append([m.name.partition(".")[0] for m in members[::3]])
    assert [len(keys) for keys in held] == [4, 4, 2]
    assert [key for keys in held for key in keys] == [pair.slot.key for pair in pairs]
    assert len(open_pairs(tmp_path / "set")) == 10


def test_names_are_safe_and_sort_as_numbers_do():
    names = [pair_name(i, v, c, (3, 4)) for i in (0, 9, 10) for v in (0, 9, 99) for c in (0, 99, 1000)]
    assert names == sorted(names)
    assert pair_name(0) == "0000001"
    assert pair_name(11, 0, 2) == "0000012_v01_s003"
    for name in names:
        assert re.fullmatch(r"[0-9a-z_]+", name)
        assert not re.search(r"x[2348]", name)


def test_files_beside_the_pairs(pairs):
    texts = side_files("folders", slots(pairs))
    assert texts["meta_info.txt"].splitlines()[3] == "0000002_s002.png (24,32,3)"
    assert texts["meta_info_paired.txt"].splitlines()[3] == "gt/0000002_s002.png, lq/0000002_s002.png"
    rows = [json.loads(line) for line in texts["metadata.jsonl"].splitlines()]
    assert rows[3] == {
        "lq_file_name": "lq/0000002_s002.png",
        "gt_file_name": "gt/0000002_s002.png",
        "key": "0000002_s002",
        "seed": 1,
    }
    other = side_files("lmdb", slots(pairs))
    assert set(other) == {"metadata.jsonl"}
    assert json.loads(other["metadata.jsonl"].splitlines()[3]) == {"key": "0000002_s002", "seed": 1}


# -- others' data sets, and broken ones -----------------------------------------------------------------


def save(path, height, width):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def test_folders_of_others_are_read(tmp_path):
    for name in ("b.jpg", "a.png", "sub/c.png"):
        save(tmp_path / "gt" / name, 24, 40)
        save(tmp_path / "lq" / name, 6, 10)
    found = open_pairs(tmp_path)
    assert (found.keys, found.scale) == (("a", "b", "sub/c"), 4)
    assert found[1].gt.shape == (24, 40, 3)
    assert np.array_equal(found[0].lq, read_rgb8(tmp_path / "lq/a.png"))


def test_a_scale_in_the_names_of_one_side_is_no_other_name(tmp_path):
    """DIV2K names its small pictures 0001x4.png."""
    for name in ("0001", "sub/0002", "0003"):
        save(tmp_path / f"gt/{name}.png", 24, 40)
    for name in ("0001x4", "sub/0002x4", "0003"):
        save(tmp_path / f"lq/{name}.png", 6, 10)
    found = open_pairs(tmp_path)
    assert (found.keys, found.scale) == (("0001", "0003", "sub/0002"), 4)
    assert np.array_equal(found[0].lq, read_rgb8(tmp_path / "lq/0001x4.png"))
    save(tmp_path / "lq/0001x2.png", 12, 20)
    with pytest.raises(DataError, match=r"lq/0001x2\.png|gt/0001\.png"):
        open_pairs(tmp_path)


def test_what_is_wrong_is_named(tmp_path, pairs):
    with pytest.raises(DataError, match="no such folder"):
        open_pairs(tmp_path / "none")
    with pytest.raises(DataError, match="holds neither"):
        open_pairs(tmp_path)
    (tmp_path / "gt").mkdir()
    (tmp_path / "lq").mkdir()
    with pytest.raises(DataError, match="holds no pairs"):
        open_pairs(tmp_path)
    save(tmp_path / "gt/a.png", 24, 40)
    with pytest.raises(DataError, match=r"gt/a\.png: has no partner .* lq/"):
        open_pairs(tmp_path)
    save(tmp_path / "lq/a.png", 6, 10)
    save(tmp_path / "gt/b.png", 24, 40)
    save(tmp_path / "lq/b.png", 6, 11)
    found = open_pairs(tmp_path)
    assert found[0].key == "a"
    with pytest.raises(DataError, match=r"pair b: gt is 40x24, lq 11x6; expected 4 times"):
        found[1]
    (tmp_path / "lq/b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="lq of pair b cannot be decoded"):
        found[1]
    (tmp_path / "deflow.partial.json").touch()
    with pytest.raises(DataError, match="has not finished"):
        open_pairs(tmp_path)


def test_lonely_keys_and_broken_containers(tmp_path, pairs):
    write("lmdb", tmp_path / "a", pairs)
    with lmdb.open(str(tmp_path / "a/lq.lmdb")) as environment, environment.begin(write=True) as transaction:
        transaction.delete(b"0000002_s001")
    with pytest.raises(DataError, match=r"gt\.lmdb: 0000002_s001 has no partner in lq\.lmdb"):
        open_pairs(tmp_path / "a")
    (tmp_path / "a/gt.lmdb/data.mdb").write_bytes(b"no")
    with pytest.raises(DataError, match=r"gt\.lmdb: not a readable LMDB"):
        open_pairs(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/000000.tar").write_bytes(b"no" * 600)
    with pytest.raises(DataError, match=r"000000\.tar: not a readable tar file"):
        open_pairs(tmp_path / "b")
    with tarfile.open(tmp_path / "b/000000.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("7.gt.png"))
    with pytest.raises(DataError, match=r"7 has no 7\.lq\.png"):
        open_pairs(tmp_path / "b")


def test_without_lmdb_the_command_that_installs_it_is_told(tmp_path, pairs, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(DataError, match="not installed") as caught:
        make_writer("lmdb", tmp_path, slots(pairs))
    assert "deflow-cli[lmdb]" in caught.value.next_step


@pytest.mark.parametrize("kind", FORMATS)
def test_clearing_removes_our_files_alone(kind, tmp_path, pairs):
    target = tmp_path / "set"
    write(kind, target, pairs)
    (target / "notes.md").write_text("mine")
    (target / "deflow.json").write_text("{}")
    clear_pairs(target)
    assert [path.name for path in target.iterdir() if path.name != ".deflow-tmp"] == ["notes.md"]


def test_clearing_stops_at_files_of_others(tmp_path, pairs):
    write("folders", tmp_path, pairs)
    (tmp_path / "gt/holiday.png").write_bytes(b"mine")
    before = files(tmp_path)
    with pytest.raises(DataError, match=r"holiday\.png"):
        clear_pairs(tmp_path)
    assert files(tmp_path) == before


# -- crops ----------------------------------------------------------------------------------------------


def test_crops_go_row_by_row_and_end_flush_with_the_edge():
    boxes = crop_windows(500, 1000, 480, 240)
    assert [(box.top, box.left) for box in boxes] == [(y, x) for y in (0, 20) for x in (0, 240, 480, 520)]
    assert crop_windows(480, 480, 480, 240) == [Window(0, 0, 480, 480)]
    assert [box.left for box in crop_windows(8, 16, 8, 4)] == [0, 4, 8]
    assert Window(20, 240, 480, 480).divided(4) == Window(5, 60, 120, 120)


@pytest.mark.parametrize(
    ("crop", "stride", "word"), [(50, 48, "crop 50"), (48, 30, "stride 30"), (48, 64, "larger than the crop")]
)
def test_crops_of_one_side_are_crops_of_the_other(crop, stride, word):
    check_crop(48, 24, 4)
    with pytest.raises(ConfigError, match=word):
        check_crop(crop, stride, 4)


def test_members_of_a_shard_are_read_in_place_and_links_not_followed(tmp_path, pairs):
    folder = tmp_path / "set"
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as tar:
        for name, content in (("../../evil.gt.png", pairs[0].gt), ("../../evil.lq.png", pairs[0].lq)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"has no"):
        open_pairs(folder)
    with tarfile.open(folder / "0.tar", "w") as tar:
        for name, content in (("/tmp/evil.gt.png", pairs[0].gt), ("/tmp/evil.lq.png", pairs[0].lq)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert open_pairs(folder).encoded(0) == (pairs[0].gt, pairs[0].lq)
    assert sorted(tmp_path.rglob("*")) == before
    with tarfile.open(folder / "0.tar", "w") as tar:
        for name in ("a.gt.png", "a.lq.png"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(member)
    with pytest.raises(DataError, match="holds no pairs"):
        open_pairs(folder)


# -- containers cut short ---------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["gt", "lq"])
def test_an_lmdb_cut_short_is_told_before_and_while_it_is_read(tmp_path, pairs, side):
    write("lmdb", tmp_path / "set", pairs)
    found = open_pairs(tmp_path / "set")
    path = tmp_path / f"set/{side}.lmdb/data.mdb"
    whole = path.read_bytes()
    path.write_bytes(whole[:9000])
    with pytest.raises(
        DataError, match=rf"{side}\.lmdb/data\.mdb: incomplete: 0000005_s002 is not there whole"
    ):
        found[9]
    with pytest.raises(
        DataError, match=rf"{side}\.lmdb: incomplete: data\.mdb has 9000 of {len(whole)}"
    ) as e:
        open_pairs(tmp_path / "set")
    assert "make the data set anew" in e.value.next_step


def test_a_shard_cut_short_anywhere_is_told(tmp_path, pairs):
    write("webdataset", tmp_path / "set", pairs)
    path = tmp_path / "set/000000.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        end = tar.offset
    found = open_pairs(tmp_path / "set")
    sizes = [members[5].offset, members[6].offset, members[9].offset_data, members[7].offset_data + 9, end]
    for size in sizes:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"000000\.tar: (incomplete|damaged|not a readable)"):
            open_pairs(tmp_path / "set")
    path.write_bytes(whole[: members[6].offset_data + 9])
    with pytest.raises(DataError, match=r"000000\.tar: incomplete"):
        found[2]
    damaged = bytearray(whole)
    damaged[members[6].offset + 3] ^= 1  # a header's checksum is wrong
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"000000\.tar: damaged: the entry after 2 samples"):
        open_pairs(tmp_path / "set")
