//! Tables of lines as CPython wrote them, against what it says of them (`co_lines`).

use crate::perf::linux::runtimes::cpython::lines::{LineForm, LineTable};

fn unhex(text: &str) -> Box<[u8]> {
    let digits = text.as_bytes().as_chunks::<2>().0.iter();
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The first position of each range, and its line; the table begins at line 2.
fn assert_lines(form: LineForm, bytes: &str, ranges: &[(u32, Option<u32>)]) {
    let table = LineTable { form, bytes: unhex(bytes) };
    for (at, (start, line)) in ranges.iter().enumerate() {
        let end = ranges.get(at + 1).map_or(start + 1, |(next, _)| *next);
        for position in *start..end {
            assert_eq!(table.line(2, position), *line, "{form:?} at {position}");
        }
    }
}

/// Scenario: a function with a loop, a comprehension and an exception handler over several lines, as
/// 3.8, 3.10, 3.11 and 3.13 compile it.
/// Guarantees: every instruction is on the line that the interpreter itself says.
#[test]
fn lines_of_every_form() {
    assert_lines(
        LineForm::Lnotab,
        "0001020102ff04020c010a020201060206fe0a030e010601",
        &[
            (0, Some(3)),
            (1, Some(4)),
            (2, Some(3)),
            (4, Some(5)),
            (10, Some(6)),
            (15, Some(8)),
            (16, Some(9)),
            (19, Some(11)),
            (22, Some(9)),
            (27, Some(12)),
            (34, Some(13)),
            (37, Some(14)),
        ],
    );
    assert_lines(
        LineForm::Linetable,
        "0201020104ff0c020a0102020601060208fe04050cfe0201040102fe",
        &[
            (0, Some(3)),
            (1, Some(4)),
            (2, Some(3)),
            (4, Some(5)),
            (10, Some(6)),
            (15, Some(8)),
            (16, Some(9)),
            (19, Some(11)),
            (22, Some(9)),
            (26, Some(14)),
            (28, Some(12)),
            (34, Some(13)),
            (35, Some(14)),
            (37, Some(12)),
        ],
    );
    assert_lines(
        LineForm::Locations,
        "8000d8090ad8090af103010a0b8041e50d12903189588c58f00001050ff00001050f8801d808098851890688018801f0\
         0405050df002020d17f000020d17e50d12903189588c58f005020d17f100020d17f400020d1788018801f8f506000c16\
         f00001050df00001050df00001050dd8080c8804f00301050df8f8f8e00b0c8048",
        &[
            (0, Some(2)),
            (1, Some(3)),
            (2, Some(4)),
            (3, Some(3)),
            (5, Some(3)),
            (6, Some(5)),
            (23, Some(6)),
            (29, Some(8)),
            (30, Some(9)),
            (32, Some(11)),
            (46, Some(9)),
            (56, None),
            (57, Some(12)),
            (66, Some(13)),
            (68, Some(12)),
            (69, None),
            (72, Some(14)),
        ],
    );
    assert_lines(
        LineForm::Locations,
        "8000d8090ad8090af103010a0b8041e40d1290318e588801d8080989068a01f103000e16f00605050df406000e139031\
         8c58f305020d17e10d15f003001213f303000e0fe10d15f00500090af000020d17f00a000c0d8048f9f20b020d17f8f4\
         06000c16f30001050dd8080cd80b0c8048f00501050dfa",
        &[
            (0, Some(2)),
            (1, Some(3)),
            (2, Some(4)),
            (3, Some(3)),
            (6, Some(5)),
            (20, Some(6)),
            (26, Some(5)),
            (28, Some(8)),
            (29, Some(11)),
            (40, Some(9)),
            (44, Some(11)),
            (46, Some(10)),
            (47, Some(9)),
            (51, Some(11)),
            (53, Some(9)),
            (55, Some(14)),
            (57, None),
            (59, Some(9)),
            (62, None),
            (63, Some(12)),
            (72, Some(13)),
            (73, Some(14)),
            (75, Some(12)),
            (76, None),
        ],
    );
}

/// Scenario: tables that are cut off anywhere, and any bytes.
/// Guarantees: a line or none; nothing panics, no number overflows.
#[test]
fn any_table() {
    let seed = unhex("8000f8ffffffffffffffffffffff7ff0ff3fe8bfbfbfbfbfbfbfbfbf00d8090af10301");
    for form in [LineForm::Lnotab, LineForm::Linetable, LineForm::Locations] {
        for cut in 0..seed.len() {
            for from in 0..cut {
                let bytes = seed.get(from..cut).unwrap().into();
                let table = LineTable { form, bytes };
                for position in [0, 1, 7, 1 << 24, u32::MAX] {
                    let _ = table.line(u32::MAX, position);
                }
            }
        }
    }
}
