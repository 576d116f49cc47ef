//! Programs by hand: what each instruction does, what is refused, which result wins.

use super::*;

fn one(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Runs instructions whose last value in A is the result.
fn result(instructions: &[sock_filter]) -> u32 {
    let mut program = instructions.to_vec();
    program.push(one(0x16, 0, 0, 0)); // return A
    let call = Call {
        number: 7,
        arch: 0xC000_003E,
        ip: 0x1122_3344_5566_7788,
        args: [1, 2, 3, 4, 5, 0xAAAA_BBBB_CCCC_DDDD],
    };
    Filter::new(&program).unwrap().run(&call)
}

#[test]
fn every_instruction_does_what_the_kernel_documents() {
    let k = |code, k| one(code, 0, 0, k);
    for (program, expected) in [
        (vec![], 0), // A and X begin as zero
        (vec![k(0x20, 0)], 7),
        (vec![k(0x20, 4)], 0xC000_003E),
        (vec![k(0x20, 8)], 0x5566_7788),
        (vec![k(0x20, 12)], 0x1122_3344),
        (vec![k(0x20, 16)], 1),
        (vec![k(0x20, 20)], 0),
        (vec![k(0x20, 56)], 0xCCCC_DDDD),
        (vec![k(0x20, 60)], 0xAAAA_BBBB),
        (vec![k(0x00, 9)], 9),
        (vec![k(0x80, 0)], 64),
        (vec![k(0x81, 0), k(0x87, 0)], 64),
        (vec![k(0x01, 5), k(0x87, 0)], 5),
        (vec![k(0x00, 5), k(0x07, 0), k(0x0c, 0)], 10),
        (vec![k(0x00, 5), k(0x02, 15), k(0x00, 1), k(0x60, 15)], 5),
        (vec![k(0x01, 6), k(0x03, 0), k(0x60, 0)], 6),
        (vec![k(0x01, 6), k(0x03, 0), k(0x61, 0), k(0x87, 0)], 6),
        (vec![k(0x00, 1), k(0x14, 2)], u32::MAX),
        (vec![k(0x00, 1 << 31), k(0x24, 2)], 0),
        (vec![k(0x00, 9), k(0x34, 2)], 4),
        (vec![k(0x00, 9), k(0x3c, 0)], 0), // X is 0: the program ends with 0
        (vec![k(0x00, 5), k(0x44, 2)], 7),
        (vec![k(0x00, 5), k(0x54, 4)], 4),
        (vec![k(0x00, 5), k(0x64, 31)], 1 << 31),
        (vec![k(0x00, 1 << 31), k(0x74, 31)], 1),
        (vec![k(0x01, 33), k(0x00, 1), k(0x6c, 0)], 2), // five bits of X count
        (vec![k(0x00, 5), k(0xa4, 1)], 4),
        (vec![k(0x00, 1), k(0x84, 0)], u32::MAX),
        (vec![k(0x05, 1), k(0x00, 1), k(0x04, 2)], 2),
        (vec![one(0x15, 1, 0, 0), k(0x00, 1), k(0x04, 2)], 2),
        (vec![one(0x25, 1, 0, 0), k(0x00, 1), k(0x04, 2)], 3),
        (vec![one(0x35, 0, 1, 0), k(0x00, 1), k(0x04, 2)], 3),
        (
            vec![k(0x00, 6), one(0x45, 1, 0, 2), k(0x04, 1), k(0x04, 2)],
            8,
        ),
        (
            vec![k(0x01, 1), one(0x2d, 1, 0, 0), k(0x04, 1), k(0x04, 2)],
            3,
        ),
    ] {
        assert_eq!(result(&program), expected, "{program:?}");
    }
}

#[test]
fn what_the_kernel_refuses_is_refused() {
    let end = one(6, 0, 0, 0);
    for (program, error) in [
        (vec![], FilterError::Length(0)),
        (vec![end.clone(); 4097], FilterError::Length(4097)),
        (vec![one(0, 0, 0, 0)], FilterError::End),
        (
            vec![one(0x28, 0, 0, 0), end.clone()],
            FilterError::Code { at: 0, code: 0x28 },
        ),
        (
            vec![one(0x94, 0, 0, 1), end.clone()],
            FilterError::Code { at: 0, code: 0x94 },
        ),
        (
            vec![one(0x0e, 0, 0, 1)],
            FilterError::Code { at: 0, code: 0x0e },
        ),
        (
            vec![one(0x20, 0, 0, 64), end.clone()],
            FilterError::Constant { at: 0, k: 64 },
        ),
        (
            vec![one(0x20, 0, 0, 2), end.clone()],
            FilterError::Constant { at: 0, k: 2 },
        ),
        (
            vec![one(0x34, 0, 0, 0), end.clone()],
            FilterError::Constant { at: 0, k: 0 },
        ),
        (
            vec![one(0x64, 0, 0, 32), end.clone()],
            FilterError::Constant { at: 0, k: 32 },
        ),
        (
            vec![one(0x02, 0, 0, 16), end.clone()],
            FilterError::Constant { at: 0, k: 16 },
        ),
        (
            vec![one(0x05, 0, 0, 1), end.clone()],
            FilterError::Jump { at: 0 },
        ),
        (
            vec![one(0x05, 0, 0, u32::MAX), end.clone()],
            FilterError::Jump { at: 0 },
        ),
        (
            vec![one(0x15, 0, 1, 0), end.clone()],
            FilterError::Jump { at: 0 },
        ),
        (
            vec![one(0x60, 0, 0, 3), end.clone()],
            FilterError::Memory { at: 0 },
        ),
    ] {
        assert_eq!(Filter::new(&program), Err(error), "{program:?}");
    }
    assert!(Filter::new(&vec![end.clone(); 4096]).is_ok());
    // One of two ways to the read has not written.
    let ways = |jt| {
        vec![
            one(0x15, jt, 0, 0),
            one(0x02, 0, 0, 3),
            one(0x60, 0, 0, 3),
            end.clone(),
        ]
    };
    assert!(Filter::new(&ways(0)).is_ok());
    assert_eq!(Filter::new(&ways(1)), Err(FilterError::Memory { at: 2 }));
}

#[test]
fn the_strictest_result_wins_and_of_equals_the_newest() {
    let filter = |result| Filter::new(&[one(6, 0, 0, result)]).unwrap();
    let order = [
        (0x8000_0000, Action::KillProcess),
        (0x0000_0000, Action::KillThread),
        (0x0003_0005, Action::Trap(5)),
        (0x0005_0026, Action::Errno(38)),
        (0x7fc0_0000, Action::Notify),
        (0x7ff0_0009, Action::Trace(9)),
        (0x7ffc_0000, Action::Log),
        (0x7fff_0000, Action::Allow),
    ];
    let call = Call::default();
    for (strict, (result, action)) in order.iter().enumerate() {
        for (weaker, _) in &order[strict..] {
            for pair in [[*result, *weaker], [*weaker, *result]] {
                assert_eq!(decide(&pair.map(filter), &call), *action, "{pair:x?}");
            }
        }
    }
    let errors = [0x0005_0001, 0x0005_0002].map(filter);
    assert_eq!(decide(&errors, &call), Action::Errno(2));
    assert_eq!(
        decide(&[0x0005_ffff].map(filter), &call),
        Action::Errno(4095)
    );
    assert_eq!(
        decide(&[0x1234_0000].map(filter), &call),
        Action::KillProcess
    );
    assert_eq!(decide(&[], &call), Action::Allow);
}
