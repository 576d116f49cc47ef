//! `GOPROXY`: which proxies are asked, in which order, and where that is configured.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use reqwest::Url;

/// Most proxies of one list.
const SOURCES_MAX: usize = 16;
/// Longest list in bytes.
const LIST_BYTES_MAX: usize = 8 * 1024;
/// Longest `go.env` that is read; the one of a Go release has under 1 KiB.
const GO_ENV_BYTES_MAX: u64 = 64 * 1024;

/// Why no proxy is known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourcesError {
    /// Nobody named one.
    #[error("no module proxy is configured: give --goproxy, set GOPROXY, or install Go")]
    Nowhere,
    /// The list has `direct` or `off` in its first place, or nothing at all.
    #[error(
        "the module proxy list has no proxy in it: give a URL, `direct` and `off` are not followed"
    )]
    Nothing,
    /// An element is no URL that can be asked. It is not repeated: it may hold a password.
    #[error("element {number} of the module proxy list is no http:// or https:// URL")]
    Element {
        /// Counted from one.
        number: usize,
    },
    /// The list is longer than accepted.
    #[error("the module proxy list is too long")]
    TooLong,
}

/// One proxy. Shown without user name, password and query.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    url: Url,
    /// The next one is asked after any error (`|`), not only when this one lacks the file (`,`).
    pub(super) yields_on_error: bool,
}

impl Source {
    /// Takes a base address.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let usable = matches!(url.scheme(), "http" | "https") && url.has_host();
        let plain = url.query().is_none() && url.fragment().is_none();
        (usable && plain).then_some(Self {
            url,
            yields_on_error: false,
        })
    }

    /// Address of a file. `path` is relative and already escaped.
    pub(crate) fn join(&self, path: &str) -> Option<Url> {
        let mut url = self.url.clone();
        let full = format!("{}/{path}", url.path().trim_end_matches('/'));
        url.set_path(&full);
        // A path that the address normalises would ask for something else.
        (url.path() == full).then_some(url)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self
            .url
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let host = self.url.host_str().unwrap_or_default();
        write!(
            f,
            "{}://{host}{port}{}",
            self.url.scheme(),
            self.url.path().trim_end_matches('/')
        )
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The proxies, in the order in which they are asked; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

/// The places that may name a proxy, in the order in which they count.
#[derive(Default)]
pub struct Given<'a> {
    /// `--goproxy`
    pub flag: Option<&'a str>,
    /// `GOPROXY`
    pub environment: Option<&'a str>,
    /// Our own configuration.
    pub configuration: Option<&'a str>,
    /// `GOROOT`, for the `go.env` of the Go installation.
    pub goroot: Option<&'a OsStr>,
    /// `PATH`, to find that installation by its `go`.
    pub path: Option<&'a OsStr>,
}

impl Given<'_> {
    /// The first list that somebody gave. It may hold passwords: for [`Sources::parse`] only.
    ///
    /// # Errors
    /// [`SourcesError::Nowhere`].
    pub fn list(&self) -> Result<String, SourcesError> {
        let named = [self.flag, self.environment, self.configuration];
        let named = named
            .into_iter()
            .flatten()
            .find(|list| !list.trim().is_empty());
        named
            .map(ToOwned::to_owned)
            .or_else(|| self.installed())
            .ok_or(SourcesError::Nowhere)
    }

    /// `GOPROXY` of a Go installation's `go.env`, without running it.
    fn installed(&self) -> Option<String> {
        let by_root = self
            .goroot
            .filter(|root| !root.is_empty())
            .map(PathBuf::from);
        let folders = self.path.into_iter().flat_map(std::env::split_paths);
        let by_path = folders.filter_map(|folder| {
            let program = folder.join("go").canonicalize().ok()?;
            program.parent()?.parent().map(Path::to_path_buf)
        });
        by_root.into_iter().chain(by_path).find_map(|root| {
            let mut text = String::new();
            let file = File::open(root.join("go.env")).ok()?;
            file.take(GO_ENV_BYTES_MAX).read_to_string(&mut text).ok()?;
            goproxy_of(&text)
        })
    }
}

/// The list that counts for this process, from `--goproxy` (or our own configuration), `GOPROXY` or
/// the Go installation, checked. It may hold passwords: not for printing.
///
/// # Errors
/// See [`SourcesError`].
pub fn lookup(flag: Option<&str>) -> Result<String, SourcesError> {
    let (goroot, path) = (std::env::var_os("GOROOT"), std::env::var_os("PATH"));
    let environment = std::env::var("GOPROXY").ok();
    let given = Given {
        flag,
        environment: environment.as_deref(),
        configuration: None,
        goroot: goroot.as_deref(),
        path: path.as_deref(),
    }
    .list()?;
    Sources::parse(&given).map(|_| given)
}

/// `GOPROXY` of a file of `NAME=value` lines.
fn goproxy_of(go_env: &str) -> Option<String> {
    let values = go_env
        .lines()
        .filter_map(|line| line.trim().strip_prefix("GOPROXY="));
    values
        .map(str::trim)
        .rfind(|value| !value.is_empty())
        .map(ToOwned::to_owned)
}

impl Sources {
    /// Parses a list with `,` and `|`. `direct` and `off` end it.
    ///
    /// # Errors
    /// When nothing is left, or an element is no URL.
    pub fn parse(list: &str) -> Result<Self, SourcesError> {
        if list.len() > LIST_BYTES_MAX {
            return Err(SourcesError::TooLong);
        }
        let mut sources = Vec::new();
        for (number, element) in list.split_inclusive([',', '|']).enumerate() {
            let text = element.trim_end_matches([',', '|']).trim();
            match text {
                "" => continue,
                "direct" | "off" => break,
                _ => {}
            }
            if sources.len() == SOURCES_MAX {
                return Err(SourcesError::TooLong);
            }
            // As in go, a bare host means https.
            let full = if text.contains("://") {
                text.to_owned()
            } else {
                format!("https://{text}")
            };
            let mut source =
                Source::new(&full).ok_or(SourcesError::Element { number: number + 1 })?;
            source.yields_on_error = element.ends_with('|');
            sources.push(source);
        }
        if sources.is_empty() {
            Err(SourcesError::Nothing)
        } else {
            Ok(Self(sources))
        }
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, source) in self.0.iter().enumerate() {
            write!(f, "{}{source}", if number == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_and_off_end_the_list_and_are_never_followed() {
        let shown = |list| Sources::parse(list).map(|sources| sources.to_string());
        let both = Ok("https://a.example, http://b.example:3000/x".to_owned());
        assert_eq!(
            shown("https://a.example,http://b.example:3000/x/|direct"),
            both
        );
        assert_eq!(
            shown("https://a.example/,off,https://b.example"),
            Ok("https://a.example".into())
        );
        assert_eq!(shown(" a.example , direct"), Ok("https://a.example".into()));
        for list in ["direct", "off", "", ",|", "direct,https://a.example"] {
            assert_eq!(shown(list), Err(SourcesError::Nothing), "{list:?}");
        }
        for list in ["ftp://a.example", "https://", "https://a.example?x", "a b"] {
            assert_eq!(
                shown(list),
                Err(SourcesError::Element { number: 1 }),
                "{list:?}"
            );
        }
        assert_eq!(shown(&"a.example,".repeat(17)), Err(SourcesError::TooLong));
    }

    #[test]
    fn the_separator_says_when_the_next_one_is_asked() {
        let sources = Sources::parse("a.example|b.example,c.example").unwrap();
        let yields: Vec<_> = sources
            .iter()
            .map(|source| source.yields_on_error)
            .collect();
        assert_eq!(yields, [true, false, false]);
    }

    #[test]
    fn credentials_are_never_shown() {
        let list = "https://user:secret@a.example/path,http://token@b.example|direct";
        let sources = Sources::parse(list).unwrap();
        for text in [sources.to_string(), format!("{sources:?}")] {
            assert!(
                text.contains("a.example/path") && text.contains("b.example"),
                "{text}"
            );
            for hidden in ["user", "secret", "token"] {
                assert!(!text.contains(hidden), "{text}");
            }
        }
        let error = Sources::parse("https://a.example,ftp://user:secret@b.example").unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn a_file_lies_below_the_source_and_nowhere_else() {
        let source = Source::new("https://u:p@a.example/go/").unwrap();
        let url = source
            .join("github.com/!x/y/@v/v1.0.0+incompatible.info")
            .unwrap();
        assert_eq!(
            url.as_str(),
            "https://u:p@a.example/go/github.com/!x/y/@v/v1.0.0+incompatible.info"
        );
        for path in ["../x", "a/./b", "a/%2e%2e/b", "a?b", "a#b", "a b"] {
            assert_eq!(source.join(path), None, "{path:?}");
        }
    }

    #[test]
    fn the_first_place_that_names_a_proxy_wins() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("go1");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        File::create(root.join("bin/go")).unwrap();
        let mut go_env = File::create(root.join("go.env")).unwrap();
        std::io::Write::write_all(
            &mut go_env,
            b"# GOPROXY=no\nGOSUMDB=x\nGOPROXY=d.example,direct\n",
        )
        .unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(root.join("bin/go"), bin.join("go")).unwrap();
        let path = std::env::join_paths([folder.path(), &bin]).unwrap();
        let mut given = Given {
            flag: Some("a"),
            environment: Some("b"),
            configuration: Some("c"),
            goroot: None,
            path: Some(&path),
        };
        assert_eq!(given.list(), Ok("a".into()));
        given.flag = Some("");
        assert_eq!(given.list(), Ok("b".into()));
        given.environment = None;
        assert_eq!(given.list(), Ok("c".into()));
        given.configuration = None;
        assert_eq!(given.list(), Ok("d.example,direct".into()));
        given = Given {
            goroot: Some(root.as_os_str()),
            ..Given::default()
        };
        assert_eq!(given.list(), Ok("d.example,direct".into()));
        assert_eq!(Given::default().list(), Err(SourcesError::Nowhere));
    }
}
