//! Which machine a visitor probably has, from what its browser says of itself.
//!
//! A guess for links without a target; the page then shows it and offers the others.

use crate::spec::Target;

/// Guesses a target. Unknown agents (curl, crawlers) get linux/amd64.
#[must_use]
pub fn target(user_agent: &str) -> Target {
    let agent = user_agent.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| agent.contains(word));
    let arm64 = has(&["aarch64", "arm64"]);
    let (goos, goarch) = if has(&["windows"]) {
        ("windows", if arm64 { "arm64" } else { "amd64" })
    } else if has(&["mac os x", "macintosh", "darwin"]) {
        // Browsers on every Mac claim to run on Intel; those sold since 2020 do not.
        (
            "darwin",
            if has(&["x86_64", "amd64"]) {
                "amd64"
            } else {
                "arm64"
            },
        )
    } else if has(&["freebsd", "openbsd", "netbsd"]) {
        let goos = ["freebsd", "openbsd", "netbsd"]
            .into_iter()
            .find(|name| has(&[name]));
        (
            goos.unwrap_or("freebsd"),
            if arm64 { "arm64" } else { "amd64" },
        )
    } else if arm64 || has(&["android"]) {
        ("linux", "arm64")
    } else if has(&["armv7", "armv6"]) {
        ("linux", "arm")
    } else if has(&["i686", "i386"]) {
        ("linux", "386")
    } else if has(&["riscv64"]) {
        ("linux", "riscv64")
    } else {
        ("linux", "amd64")
    };
    Target::new(goos, goarch).unwrap_or(Target::HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_agents_get_their_own_machine() {
        for (agent, wanted) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "linux-amd64",
            ),
            (
                "Mozilla/5.0 (X11; Linux aarch64) AppleWebKit/537.36 Chrome/140",
                "linux-arm64",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140.0",
                "windows-amd64",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605",
                "darwin-arm64",
            ),
            (
                "Mozilla/5.0 (X11; FreeBSD amd64; rv:140.0) Firefox/140.0",
                "freebsd-amd64",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15) Chrome/140 Mobile",
                "linux-arm64",
            ),
            ("curl/8.5.0", "linux-amd64"),
            ("", "linux-amd64"),
        ] {
            assert_eq!(target(agent).to_string(), wanted, "{agent}");
        }
    }
}
