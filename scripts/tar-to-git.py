#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Writes a tar archive (stdin) as one git fast-import commit (stdout), without its top directory.

The commit depends on the contents and the message only, so every machine gets the same id.
"""

import sys
import tarfile

out = sys.stdout.buffer
message = sys.argv[1].encode()


def data(blob):
    out.write(b"data %d\n" % len(blob) + blob + b"\n")


out.write(b"reset refs/tags/pristine\ncommit refs/tags/pristine\n")
out.write(b"committer gmem_iommu <gmem_iommu@localhost> 1000000000 +0000\n")
data(message)
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
    for member in tar:
        path = member.name.removeprefix("./").partition("/")[2]
        if not path:
            continue
        if member.issym():
            mode, blob = b"120000", member.linkname.encode()
        elif member.isfile():
            mode = b"100755" if member.mode & 0o100 else b"100644"
            blob = tar.extractfile(member).read()
        else:
            continue
        out.write(b"M " + mode + b" inline " + path.encode() + b"\n")
        data(blob)
