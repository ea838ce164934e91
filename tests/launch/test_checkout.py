"""The archive of a checkout that the machines of a slice unpack."""

import subprocess
import tarfile

from pod import checkout


def test_the_archive_is_the_tracked_files_and_the_same_each_time(tmp_path):
    (tmp_path / "a b").write_text("text\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("a b")
    (tmp_path / "secret").write_text("not tracked\n")
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "a b", "run.sh", "link"], check=True)
    first = checkout.pack(tmp_path)
    (tmp_path / "run.sh").touch()
    assert checkout.pack(tmp_path) == first
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(first)
    with tarfile.open(archive) as members:
        found = {member.name: (member.mode, member.linkname) for member in members}
    assert found == {"a b": (0o644, ""), "run.sh": (0o755, ""), "link": (0o644, "a b")}
    (tmp_path / "run.sh").unlink()  # deleted, and git does not know yet
    assert checkout.pack(tmp_path) != first
