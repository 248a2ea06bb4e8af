"""The digest of a user's files: their content, wherever they are and whatever lies beside them."""

import os

import pytest

from tasks.data import digest
from tasks.data.digest import digest_of
from tasks.errors import UserError


@pytest.fixture
def copy(tmp_path):
    def write(name, **files):
        folder = tmp_path / name
        for file, content in files.items():
            path = folder / file.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return folder

    return write


def of(path, *patterns, data_dir=None):
    return digest_of(path, patterns or ("*",), data_dir or path.parent / "data", "task.data.path")


def test_content_counts_and_not_the_place(copy):
    first, second = copy("a", x_csv="1", sub__y_csv="2"), copy("b", x_csv="1", sub__y_csv="2")
    assert of(first) == of(second)
    others = [copy("c", x_csv="1", sub__y_csv="3"), copy("d", x_csv="1", sub__z_csv="2")]
    others.append(copy("e", x_csv="1"))
    assert len({of(first), *map(of, others)}) == 4


def test_what_is_not_read_does_not_count(copy):
    folder = copy("a", x_csv="1")
    before = of(folder, "*.csv")
    copy("a", readme_md="of no account", _hidden="neither", data__x_csv="read")
    assert of(folder, "x.csv") == of(copy("b", x_csv="1"), "x.csv") == before
    assert of(folder, "*.csv") != before


def test_change_of_the_same_size_and_time_is_seen(copy):
    folder = copy("a", x_csv="1")
    before, stat = of(folder), (folder / "x.csv").stat()
    assert of(folder) == before
    copy("a", x_csv="2")
    os.utime(folder / "x.csv", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert of(folder) != before


def test_what_was_read_once_is_not_read_again(copy, monkeypatch):
    folder = copy("a", x_csv="1")
    before = of(folder)
    monkeypatch.setattr(digest, "file_sha256", lambda _: pytest.fail("read again"))
    assert of(folder) == before


def test_read_only_data_folder_is_no_hindrance(copy, tmp_path):
    (tmp_path / "file").write_text("")
    folder = copy("a", x_csv="1")
    assert of(folder, data_dir=tmp_path / "file") == of(folder)


def test_links_of_a_hubs_cache_are_followed(copy, tmp_path):
    folder = copy("a", x_csv="1")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "x.csv").symlink_to(folder / "x.csv")
    assert of(linked) == of(folder)


def test_large_copy_is_told_by_names_and_sizes(copy, monkeypatch):
    monkeypatch.setattr(digest, "READ_AT_MOST", 2)
    monkeypatch.setattr(digest, "file_sha256", lambda _: pytest.fail("read"))
    first, second = copy("a", x_csv="123"), copy("b", x_csv="1234")
    assert of(first) != of(second)


def test_file_that_cannot_be_read_is_named(copy):
    folder = copy("a", x_csv="1")
    (folder / "lost.csv").symlink_to(folder / "nowhere")
    with pytest.raises(UserError, match=r"lost\.csv: cannot be read"):
        of(folder)
