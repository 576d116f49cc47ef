//! Names of licences.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::SpecError;

/// An identifier of the SPDX licence list, and no other text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LicenceId(&'static str);

impl LicenceId {
    /// Finds a licence on the list.
    ///
    /// # Errors
    /// When it is not there.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let id = spdx::license_id(text).map(|id| Self(id.name));
        id.ok_or_else(|| SpecError::new("licence", text, "it is not on the list of SPDX"))
    }

    /// As the list has it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.0
    }
}

impl<'de> Deserialize<'de> for LicenceId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_what_is_on_the_list_is_a_licence() {
        for id in ["MIT", "Apache-2.0", "GPL-3.0", "BSD-3-Clause"] {
            assert_eq!(LicenceId::parse(id).unwrap().as_str(), id);
        }
        for text in [
            "",
            "mit",
            "MIT ",
            "<script>",
            "Apache-2.0 OR MIT",
            "\u{1b}[31m",
        ] {
            assert!(LicenceId::parse(text).is_err(), "{text:?}");
            let json = serde_json::to_string(text).unwrap();
            assert!(
                serde_json::from_str::<LicenceId>(&json).is_err(),
                "{text:?}"
            );
        }
    }
}
