"""Text tables."""

import gzip

from .making import FILES, case
from .tenx import BANNER, bomb, tenx_folder


def table(rows=20, columns=30):
    lines = ["," + ",".join(f"G{j}" for j in range(columns))]
    lines += [f"c{i}," + ",".join(str((i * 7 + j * 3) % 5) for j in range(columns)) for i in range(rows)]
    return ("\n".join(lines) + "\n").encode()


def text_case(*outcomes, name, content, suffix=".csv"):
    def make(folder):
        path = folder / f"cells{suffix}"
        path.write_bytes(content() if callable(content) else content)
        return path

    FILES[f"table, {name}"] = (make, outcomes)


text_case("is infinite", name="a number beyond float32", content=table().replace(b"\nc3,1", b"\nc3,1e39", 1))
text_case("cells.csv", name="empty", content=b"")
text_case("cells.csv", name="bytes", content=bytes(range(256)) * 40)
text_case("cells.csv", name="NULs", content=b"\0" * 5000)
text_case("", name="NULs in a row", content=table().replace(b"c3,", b"c\x003,"))
text_case("", name="UTF-16", content=table().decode().encode("utf-16"))
text_case("cells.csv", name="a quote that never ends", content=table().replace(b"c3,", b'"c3,'))
text_case(
    "200,000 columns",
    name="200,000 columns",
    content=lambda: b"," + b",".join(b"G%d" % j for j in range(200_000)) + b"\nc0" + b",1" * 200_000 + b"\n",
)
text_case("line", name="a line that never ends", content=lambda: b"1" * (5 << 20))
text_case("", name="many separators", content=b"," * 2_000 + b"\n" + b"c0" + b"," * 2_000 + b"\n")
text_case("cells.csv", name="a row too long", content=table() + b"c99" + b",1" * 90 + b"\n")
text_case("cells.csv", name="numbers too large", content=table().replace(b"c3,", b"c3,1e9999,", 1))
text_case("is no number", "not a number", name="words", content=table().replace(b"\nc3,1", b"\nc3,two", 1))
text_case(name="gz, sound", content=gzip.compress(table()), suffix=".csv.gz")
text_case(
    name="gz, of several members", content=gzip.compress(table()[:300]) + gzip.compress(table()[300:]), suffix=".csv.gz"
)
text_case("cut short", name="gz, cut short", content=gzip.compress(table())[:-12], suffix=".csv.gz")
text_case("cells.csv.gz", name="gz, none", content=table(), suffix=".csv.gz")
text_case("cells.csv.gz", name="gz, of 0 bytes", content=b"", suffix=".csv.gz")
text_case("cells.csv.gz", name="gz, with rubbish behind", content=gzip.compress(table()) + b"rubbish", suffix=".csv.gz")
text_case("cells.csv.gz", name="gz, damaged", content=gzip.compress(table())[:-30] + b"\x00" * 30, suffix=".csv.gz")


@case("500 times its", "line")
def gzip_bomb_of_a_table(folder):
    return bomb(folder / "cells.csv.gz", b",G0,G1\nc0,")


@case("500 times its", "line")
def gzip_bomb_of_rows(folder):
    path = folder / "cells.tsv.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"\tG0\tG1\n")
        block = b"c\t0\t0\n" * 200_000
        for _ in range(20):
            file.write(block)
    return path


@case("500 times its", "matrix.mtx.gz")
def gzip_bomb_of_a_matrix(folder):
    path = tenx_folder(folder, "")
    (path / "matrix.mtx").unlink()
    with gzip.open(path / "matrix.mtx.gz", "wb", compresslevel=1) as file:
        file.write(BANNER.encode())
        block = b"%" * (1 << 20)
        for _ in range(24):
            file.write(block)
    return path


@case("500 times its", "features.tsv.gz")
def gzip_bomb_of_features(folder):
    path = tenx_folder(folder, BANNER + "40 60 1\n1 1 1\n")
    (path / "features.tsv").unlink()
    bomb(path / "features.tsv.gz")
    return path
