//! Power cuts: the file system of log and signer is shut down in the middle of appends.

use hotcell_integration::{command::Run, hostile, paths, tools};

/// Cuts by default, and with `--long`.
const CUTS: (u32, u32) = (15, 300);

/// 300 cuts take three minutes on an idle machine.
const LONGEST: std::time::Duration = std::time::Duration::from_mins(15);

#[test]
fn no_power_cut_forks_the_log_or_loses_an_answer() {
    let long = tools::is_long();
    let cuts = if long { CUTS.1 } else { CUTS.0 };
    let seed = std::env::var("HOTCELL_TEST_SEED").unwrap_or_else(|_| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| since.subsec_nanos()).to_string()
    });
    assert!(
        paths::is_root(),
        "this test mounts an image: run it as root"
    );
    let done = Run::new(env!("CARGO_BIN_EXE_power_cut"))
        .arg(hostile::program("cut"))
        .arg(cuts.to_string())
        .arg(&seed)
        .time_max(LONGEST)
        .succeed();
    assert!(
        done.out().contains("nothing lost, no fork"),
        "{}",
        done.out()
    );
}
