//! What is asked of an instance, and whether a record is that.

use super::{GetError, Request};
use crate::spec::{GoQuery, ModulePath, PackageQuery, Record, Sum, Target, Variant};

/// What was asked, parsed.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) package: PackageQuery,
    target: Target,
    go: GoQuery,
    variant: Variant,
    sum: Option<Sum>,
}

impl Asked {
    pub(super) fn parse(request: &Request) -> Result<Self, GetError> {
        let target = match &request.target {
            Some(text) => Target::parse(text)?,
            None => Target::HOST,
        };
        Ok(Self {
            package: PackageQuery::parse(&request.spec)?,
            target,
            go: GoQuery::parse(request.go.as_deref().unwrap_or("latest"))?,
            variant: if request.stripped {
                Variant::Stripped
            } else {
                Variant::Plain
            },
            sum: request.sum.as_deref().map(Sum::parse).transpose()?,
        })
    }

    /// The key to look up; version and release may be moving names.
    pub(super) fn key(&self, module: &ModulePath) -> Option<String> {
        let dir = self.package.dir_in(module)?;
        let slash = if dir.is_root() { "" } else { "/" };
        let (query, target, suffix) = (&self.package.query, self.target, self.variant.suffix());
        Some(format!(
            "{module}@{query}/{dir}{slash}{target}-{}{suffix}/",
            self.go
        ))
    }

    /// Whether the record is that of what was asked. A moving name fits every concrete value: what
    /// it means is the instance's word, and the caller prints it.
    pub(super) fn check(&self, record: &Record) -> Result<(), GetError> {
        let key = &record.key;
        let other = |what: &str, got: &dyn std::fmt::Display| {
            Err(GetError::OtherRecord {
                what: format!("its {what} is {got}"),
            })
        };
        if key.package() != self.package.package
            || self
                .package
                .module
                .as_ref()
                .is_some_and(|module| *module != key.module.path)
        {
            return other("package", &format!("{} of {}", key.package(), key.module));
        }
        if self
            .package
            .query
            .exact()
            .is_some_and(|version| version != key.module.version)
        {
            return other("version", &key.module.version);
        }
        let go = match self.go {
            GoQuery::Latest => true,
            GoQuery::Line(minor) => key.go.minor() == minor,
            GoQuery::Exact(go) => key.go == go,
        };
        if !go {
            return other("Go release", &key.go);
        }
        if key.target != self.target {
            return other("target", &key.target);
        }
        if key.variant != self.variant {
            return other("variant", &format!("`{}`", key.variant.as_str()));
        }
        if self.sum.is_some_and(|sum| sum != record.sum) {
            return other("sum", &record.sum);
        }
        Ok(())
    }
}
