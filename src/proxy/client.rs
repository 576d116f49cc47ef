//! The protocol: paths, answers, and which source is asked next.

use std::sync::Arc;

use serde::Deserialize;

use super::{GetError, Limits, Sink, Sources, Transport};
use crate::spec::{ModulePath, ModuleVersion, Version};

/// Longest `.info` and `@latest` in bytes; real ones have a few hundred.
const INFO_BYTES_MAX: u64 = 64 * 1024;
/// Longest `@v/list` in bytes: 100,000 versions.
const LIST_BYTES_MAX: u64 = 4 << 20;

/// Why the proxy did not give something. No text holds credentials.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Every source says that it does not have this.
    #[error("the module proxy has no {what}")]
    Missing {
        /// What was asked for.
        what: String,
        /// The last source's answer.
        source: GetError,
    },
    /// A source does not answer as it should; trying again later may help.
    #[error("cannot get {what} from the module proxy at {proxy}")]
    Failed {
        /// What was asked for.
        what: String,
        /// Which source.
        proxy: String,
        /// How it failed.
        source: GetError,
    },
    /// The answer is not what the protocol says.
    #[error("the module proxy answers {what} with something else: {why}")]
    Garbage {
        /// What was asked for.
        what: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// Asks the sources in order.
#[derive(Clone)]
pub struct Proxy {
    sources: Sources,
    transport: Arc<dyn Transport>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(rename = "Version")]
    version: String,
}

impl Proxy {
    /// A client for these sources.
    pub fn new(sources: Sources, transport: Arc<dyn Transport>) -> Self {
        Self { sources, transport }
    }

    /// The same client for other sources.
    #[must_use]
    pub fn with(&self, sources: Sources) -> Self {
        Self {
            sources,
            transport: Arc::clone(&self.transport),
        }
    }

    /// Asks for a file by its escaped path. `what` names it in errors.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub async fn get(
        &self,
        path: &str,
        what: &str,
        limits: Limits,
        sink: &mut dyn Sink,
    ) -> Result<(), ProxyError> {
        let mut missing = None;
        let mut failed = None;
        for source in self.sources.iter() {
            let url = source.join(path).ok_or_else(|| ProxyError::Garbage {
                what: what.into(),
                why: "odd path",
            })?;
            let mut result = self.transport.get(&url, limits, sink).await;
            if matches!(result, Err(GetError::Network(_))) {
                result = self.transport.get(&url, limits, sink).await; // once; connections break
            }
            let error = match result {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.is_missing() {
                missing = Some(ProxyError::Missing {
                    what: what.into(),
                    source: error,
                });
                continue;
            }
            let is_ours = matches!(error, GetError::Sink(_));
            let proxy = source.to_string();
            let error = ProxyError::Failed {
                what: what.into(),
                proxy,
                source: error,
            };
            if is_ours || !source.yields_on_error {
                return Err(error);
            }
            failed = Some(error);
        }
        // As in go, a failure says more than an absence.
        Err(failed.or(missing).expect("there is at least one source"))
    }

    async fn get_small(&self, path: &str, what: &str, max: u64) -> Result<Vec<u8>, ProxyError> {
        let mut body = Vec::new();
        self.get(path, what, Limits::small(max), &mut body).await?;
        Ok(body)
    }

    /// The concrete version that a version, branch or commit means. `query` is a
    /// [`crate::spec::VersionQuery`]'s text.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub async fn info(&self, module: &ModulePath, query: &str) -> Result<Version, ProxyError> {
        let path = format!("{}/@v/{}.info", module.escaped(), escaped(query));
        let what = format!("version `{query}` of `{module}`");
        let body = self.get_small(&path, &what, INFO_BYTES_MAX).await?;
        parse_info(module, &body, &what)
    }

    /// `@latest`: for modules without a list.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub async fn latest(&self, module: &ModulePath) -> Result<Version, ProxyError> {
        let what = format!("latest version of `{module}`");
        let path = format!("{}/@latest", module.escaped());
        let body = self.get_small(&path, &what, INFO_BYTES_MAX).await?;
        parse_info(module, &body, &what)
    }

    /// All tagged versions, unsorted. What is no canonical version for this path is left out.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub async fn list(&self, module: &ModulePath) -> Result<Vec<Version>, ProxyError> {
        let what = format!("list of versions of `{module}`");
        let path = format!("{}/@v/list", module.escaped());
        let body = self.get_small(&path, &what, LIST_BYTES_MAX).await?;
        let text = String::from_utf8(body).map_err(|_| ProxyError::Garbage {
            what,
            why: "it is not UTF-8",
        })?;
        let names = text
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        let versions = names.filter_map(|name| ModuleVersion::parse(module.as_str(), name).ok());
        Ok(versions.map(|module| module.version).collect())
    }

    /// An unverified go.mod.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub async fn go_mod(&self, module: &ModuleVersion) -> Result<Vec<u8>, ProxyError> {
        let what = format!("go.mod of `{module}`");
        self.get_small(
            &file_path(module, "mod"),
            &what,
            crate::modzip::GO_MOD_BYTES_MAX,
        )
        .await
    }

    /// An unverified zip.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub async fn zip(&self, module: &ModuleVersion, sink: &mut dyn Sink) -> Result<(), ProxyError> {
        let what = format!("zip of `{module}`");
        self.get(&file_path(module, "zip"), &what, Limits::zip(), sink)
            .await
    }
}

fn file_path(module: &ModuleVersion, kind: &str) -> String {
    format!(
        "{}/@v/{}.{kind}",
        module.path.escaped(),
        module.version.escaped()
    )
}

/// Upper case as in paths (`module.EscapeVersion`).
fn escaped(query: &str) -> String {
    query.chars().fold(String::new(), |mut text, c| {
        if c.is_ascii_uppercase() {
            text.push('!');
        }
        text.push(c.to_ascii_lowercase());
        text
    })
}

fn parse_info(module: &ModulePath, body: &[u8], what: &str) -> Result<Version, ProxyError> {
    let garbage = |why| ProxyError::Garbage {
        what: what.to_owned(),
        why,
    };
    let info: Info =
        serde_json::from_slice(body).map_err(|_| garbage("it is no JSON with a version"))?;
    let module = ModuleVersion::parse(module.as_str(), &info.version)
        .map_err(|_| garbage("its version is not canonical or does not fit the module"))?;
    Ok(module.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::table::Table;

    fn module() -> ModulePath {
        ModulePath::parse("example.com/M").unwrap()
    }

    fn proxy(list: &str, table: &Table) -> Proxy {
        Proxy::new(Sources::parse(list).unwrap(), Arc::new(table.clone()))
    }

    #[tokio::test]
    async fn upper_case_is_escaped_and_the_canonical_version_comes_back() {
        let table = Table::default();
        table.put(
            "http://a.test/example.com/!m/@v/!b!r.info",
            br#"{"Version":"v1.2.3"}"#,
        );
        let version = proxy("http://a.test", &table)
            .info(&module(), "BR")
            .await
            .unwrap();
        assert_eq!(version.as_str(), "v1.2.3");
    }

    #[tokio::test]
    async fn after_a_comma_only_absence_falls_through_after_a_bar_any_error() {
        let table = Table::default();
        table.put(
            "http://b.test/example.com/!m/@latest",
            br#"{"Version":"v1.0.0"}"#,
        );
        for code in [400, 403, 404, 410] {
            table.put_status("http://a.test/example.com/!m/@latest", code);
            proxy("http://a.test,http://b.test", &table)
                .latest(&module())
                .await
                .unwrap();
        }
        table.put_status("http://a.test/example.com/!m/@latest", 500);
        proxy("http://a.test|http://b.test", &table)
            .latest(&module())
            .await
            .unwrap();
        let error = proxy("http://a.test,http://b.test", &table)
            .latest(&module())
            .await
            .unwrap_err();
        assert!(matches!(error, ProxyError::Failed { .. }), "{error}");
        assert!(error.to_string().contains("http://a.test"), "{error}");
    }

    #[tokio::test]
    async fn absence_everywhere_is_absence() {
        let table = Table::default();
        let error = proxy("http://a.test|http://b.test,direct", &table)
            .list(&module())
            .await
            .unwrap_err();
        assert!(matches!(error, ProxyError::Missing { .. }), "{error}");
        assert_eq!(table.asked().len(), 2);
    }

    #[tokio::test]
    async fn garbage_is_told_from_an_answer() {
        let table = Table::default();
        for body in [
            "",
            "{}",
            "<html>",
            r#"{"Version":"latest"}"#,
            r#"{"Version":"v2.0.0"}"#,
        ] {
            table.put("http://a.test/example.com/!m/@latest", body.as_bytes());
            let error = proxy("http://a.test", &table)
                .latest(&module())
                .await
                .unwrap_err();
            assert!(
                matches!(error, ProxyError::Garbage { .. }),
                "{body} {error}"
            );
        }
    }

    #[tokio::test]
    async fn a_list_keeps_only_versions_that_fit() {
        let table = Table::default();
        let list = "v1.0.0\nv1.1.0 2020-01-01\nlatest\nv2.0.0\nv3.0.0+incompatible\n\nv1\n";
        table.put("http://a.test/example.com/!m/@v/list", list.as_bytes());
        let versions = proxy("http://a.test", &table)
            .list(&module())
            .await
            .unwrap();
        let versions: Vec<_> = versions.iter().map(Version::as_str).collect();
        assert_eq!(versions, ["v1.0.0", "v1.1.0", "v3.0.0+incompatible"]);
    }

    #[tokio::test]
    async fn errors_hold_no_credentials() {
        let table = Table::default();
        table.put_status("http://user:secret@a.test/example.com/!m/@latest", 500);
        let error = proxy("http://user:secret@a.test", &table)
            .latest(&module())
            .await
            .unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("secret") && !text.contains("user"), "{text}");
    }
}
