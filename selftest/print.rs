//! Lines on standard output, put together without an allocator.

use crate::{kernel::call, numbers as nr};

/// Longest line.
const LINE_MAX: usize = 256;

/// A line of parts, on a line of its own whatever was printed before it.
pub fn line(parts: &[&[u8]]) {
    let mut all = [b'\n'; LINE_MAX];
    let mut at = 1;
    for byte in parts
        .iter()
        .flat_map(|part| part.iter())
        .filter(|byte| **byte != 0)
    {
        if at < LINE_MAX - 1 {
            all[at] = *byte;
            at += 1;
        }
    }
    call(nr::WRITE, [1, all.as_ptr().addr(), at + 1, 0, 0, 0]);
}

/// A number in decimal digits, with NULs in front that [`line`] leaves out.
pub fn digits(mut number: usize) -> [u8; 20] {
    let mut all = [0; 20];
    for place in all.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    all
}
