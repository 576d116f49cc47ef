//! Is the way out open, and is what comes through it proven? Asked by `hotcell doctor`.

use std::io;

use super::{error::FetchError, role::Role, wire::Answer};
use crate::{
    proxy::{Limits, Sink},
    spec::{Target, Version},
    toolchain,
};

/// Longest list of SDKs: some thousand lines.
const LIST_BYTES_MAX: u64 = 4 << 20;

/// A list and the moment at which its server made it.
#[derive(Default)]
struct Seen {
    list: Vec<u8>,
    date_s: Option<u64>,
}

impl Sink for Seen {
    fn begin(&mut self, _: Option<u64>) -> io::Result<()> {
        self.list.clear();
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.list.extend_from_slice(bytes);
        Ok(())
    }

    fn date(&mut self, date: &str) {
        self.date_s = seconds(date);
    }
}

impl Role {
    /// Asks the proxy for the Go releases, and the checksum database for the newest of them.
    pub(super) async fn probe(&self) -> Result<Answer, FetchError> {
        let path = toolchain::module_path()?;
        let limits = Limits::small(LIST_BYTES_MAX);
        let mut seen = Seen::default();
        let url = format!("{}/@v/list", path.escaped());
        let proxy = &self.modules.proxy;
        proxy
            .get(&url, "the list of Go releases", limits, &mut seen)
            .await?;
        let text = String::from_utf8_lossy(&seen.list);
        let versions: Vec<Version> = text
            .lines()
            .filter_map(|line| Version::parse(line.trim()).ok())
            .collect();
        let releases = toolchain::releases(&versions, Target::HOST);
        let newest = releases.first().copied();
        let database = match newest {
            None => Err("the proxy has no Go release for this machine".to_owned()),
            Some(go) => {
                let module = toolchain::module(go, Target::HOST)?;
                match self.modules.prove(&module).await {
                    Ok(size) => Ok(size),
                    Err(error) => Err(error.trouble().text),
                }
            }
        };
        Ok(Answer::Probed {
            newest: newest.map(|go| go.to_string()),
            date_s: seen.date_s,
            database,
        })
    }
}

/// Seconds since 1970 of a date of HTTP: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
pub(super) fn seconds(date: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut parts = date.split_once(", ")?.1.split(' ');
    let number = |text: &str| text.parse::<u64>().ok();
    let day = number(parts.next()?)?;
    let month = parts.next().filter(|name| name.len() == 3)?;
    let month = (MONTHS.find(month)? / 3 + 1) as u64;
    let year = number(parts.next()?)?;
    let mut clock = parts.next()?.split(':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    // Years begin in March, so that the day that some have more is the last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?; // 1 March of year 0 to 1 January 1970
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        for (date, wanted) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200)),
            ("", None),
            ("Sun, 06 Nov 1994", None),
            ("Sun, 06 Nox 1994 08:49:37 GMT", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(seconds(date), wanted, "{date}");
        }
    }
}
