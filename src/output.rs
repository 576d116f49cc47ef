//! Output of a cell: hostile bytes that can be shown escaped for their sink, and in no other way.
//!
//! A module's author chooses what the go command prints (`//line` directives, file names, error
//! texts): escape sequences for the terminal, HTML for the page, line breaks for the event stream.
//! [`Output`] therefore has four ways out: [`Output::terminal`] (also `Display`, `Debug`: terminal
//! and trace), [`Output::html`], [`Output::json`] (one line) and [`Output::plain`] (`text/plain`,
//! sent with `nosniff`). Serialized it is base64 for the store, harmless wherever it ends up.
//! It must never gain a method that returns its bytes.

use std::fmt::{self, Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What a program in a cell printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Output(Vec<u8>);

impl Output {
    /// Whether nothing was printed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much was printed, in bytes; more when escaped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds `more` behind what is there, up to `bytes_max` in all; the rest is dropped.
    pub fn append(&mut self, more: &Self, bytes_max: usize) {
        let room = bytes_max.saturating_sub(self.0.len()).min(more.0.len());
        self.0.extend_from_slice(&more.0[..room]);
    }

    /// Leaves out the middle, so that `bytes_max` bytes stay, and says so between its ends. What
    /// went wrong first stands at the beginning, what it came to at the end.
    pub fn shorten(&mut self, bytes_max: usize) {
        let left_out = self.0.len().saturating_sub(bytes_max);
        if left_out == 0 {
            return;
        }
        let head = bytes_max / 2;
        let tail = self.0.split_off(head + left_out);
        self.0.truncate(head);
        let says = format!("\n… {left_out} bytes are left out here …\n");
        self.0.extend_from_slice(says.as_bytes());
        self.0.extend_from_slice(&tail);
    }

    /// Takes out all but a character that is still incomplete, so that a stream which arrives in
    /// pieces is not shown with its characters cut in two.
    #[must_use]
    pub fn take_complete(&mut self) -> Self {
        let keep = incomplete_tail(&self.0);
        let tail = self.0.split_off(self.0.len() - keep);
        Self(std::mem::replace(&mut self.0, tail))
    }

    /// For a terminal and for trace: no byte that a terminal acts on but line feed and tab.
    #[must_use]
    pub fn terminal(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        self.pieces(|piece| match piece {
            Piece::Char(char) => text.push(char),
            Piece::Hidden(char) => push_hidden(&mut text, char),
            Piece::Byte(byte) => push_byte(&mut text, byte),
        });
        text
    }

    /// For a page: as [`Self::terminal`], and escaped for text and for quoted attributes.
    #[must_use]
    pub fn html(&self) -> Html {
        let mut text = String::with_capacity(self.0.len());
        self.pieces(|piece| match piece {
            Piece::Char('&') => text.push_str("&amp;"),
            Piece::Char('<') => text.push_str("&lt;"),
            Piece::Char('>') => text.push_str("&gt;"),
            Piece::Char('"') => text.push_str("&quot;"),
            Piece::Char('\'') => text.push_str("&#39;"),
            Piece::Char(char) => text.push(char),
            Piece::Hidden(char) => push_hidden(&mut text, char),
            Piece::Byte(byte) => push_byte(&mut text, byte),
        });
        Html(text)
    }

    /// For JSON and event streams: a JSON string, quotes included, on one line of ASCII.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text = String::with_capacity(self.0.len() + 2);
        text.push('"');
        for char in self.terminal().chars() {
            match char {
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                // `<` and `&` too: a JSON document inside a page must not end its element.
                '"' | '\\' | '<' | '>' | '&' | '\'' => push_u16(&mut text, char),
                ' '..='~' => text.push(char),
                _ => push_u16(&mut text, char),
            }
        }
        text.push('"');
        text
    }

    /// For `text/plain`, which people read with `curl` in a terminal.
    #[must_use]
    pub fn plain(&self) -> String {
        self.terminal()
    }

    fn pieces(&self, mut take: impl FnMut(Piece)) {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                take(if is_hidden(char) {
                    Piece::Hidden(char)
                } else {
                    Piece::Char(char)
                });
            }
            for byte in chunk.invalid() {
                take(Piece::Byte(*byte));
            }
        }
    }
}

/// A piece of output, sorted by how it may be shown.
enum Piece {
    Char(char),
    Hidden(char),
    Byte(u8),
}

/// Escaped HTML text; templates print it as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Html(String);

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl askama::filters::HtmlSafe for Html {}

/// Characters that act on a terminal, change the order of text, or cannot be seen.
fn is_hidden(char: char) -> bool {
    match char {
        '\n' | '\t' => false,
        // C0, DEL and C1: ECMA-48 control functions.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => true,
        // Bidirectional controls: UAX #9, "Explicit Directional Formatting Characters".
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' => true,
        '\u{2066}'..='\u{206f}' => true,
        // Zero width, fillers and separators that break lines in some viewers.
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' => true,
        '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2028}' | '\u{2029}' => true,
        '\u{2060}'..='\u{2065}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' => true,
        '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

fn push_hidden(text: &mut String, char: char) {
    match u8::try_from(char) {
        Ok(byte) if char.is_ascii() => push_byte(text, byte),
        _ => write!(text, "\\u{{{:x}}}", u32::from(char)).expect("a string takes all"),
    }
}

fn push_byte(text: &mut String, byte: u8) {
    write!(text, "\\x{byte:02x}").expect("a string takes all");
}

fn push_u16(text: &mut String, char: char) {
    for unit in char.encode_utf16(&mut [0; 2]) {
        write!(text, "\\u{unit:04x}").expect("a string takes all");
    }
}

/// Length of a character at the end that may still be completed; 0 to 3.
fn incomplete_tail(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        Some(last) if !last.invalid().is_empty() => {
            let tail = last.invalid();
            // An invalid byte would be an error at once; the start of a character is none yet.
            let starts = std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
            if starts { tail.len() } else { 0 }
        }
        _ => 0,
    }
}

impl From<Vec<u8>> for Output {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.terminal())
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({})", self.json())
    }
}

impl Serialize for Output {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Output {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn output(text: &str) -> Output {
        Output::from(text.as_bytes().to_vec())
    }

    #[test]
    fn escape_sequences_are_shown_as_text() {
        let evil = Output::from(b"a\x1b]0;x\x07\r\n\tb\xff\xc2\x9bc\x7f".to_vec());
        assert_eq!(
            evil.terminal(),
            "a\\x1b]0;x\\x07\\x0d\n\tb\\xff\\u{9b}c\\x7f"
        );
        assert_eq!(evil.to_string(), evil.plain());
    }

    #[test]
    fn the_middle_of_what_is_too_long_is_left_out_and_that_is_said() {
        let mut short = output("0123456789");
        short.shorten(10);
        assert_eq!(short.plain(), "0123456789");
        short.shorten(4);
        assert_eq!(short.plain(), "01\n… 6 bytes are left out here …\n89");
        let mut cut = output("grün und grün");
        cut.shorten(6); // between the bytes of a character
        assert!(cut.plain().starts_with("gr\\xc3\n…"), "{}", cut.plain());
    }

    #[test]
    fn direction_and_width_cannot_be_changed() {
        assert_eq!(
            output("a\u{202e}b\u{200b}c\u{feff}").terminal(),
            "a\\u{202e}b\\u{200b}c\\u{feff}"
        );
        assert_eq!(output("grün 日本 🦀").terminal(), "grün 日本 🦀");
    }

    #[test]
    fn html_is_escaped_for_text_and_attributes() {
        let evil = output("<script>alert('x') & \"y\"\u{1b}");
        assert_eq!(
            evil.html().to_string(),
            "&lt;script&gt;alert(&#39;x&#39;) &amp; &quot;y&quot;\\x1b"
        );
    }

    #[test]
    fn json_reads_back_as_the_escaped_text_on_one_line() {
        let evil = output("</script>\u{2028}\r\ndata: x\n\"\\🦀");
        let json = evil.json();
        assert!(json.is_ascii() && !json.contains(['\n', '\r', '<']));
        assert_eq!(
            serde_json::from_str::<String>(&json).unwrap(),
            evil.terminal()
        );
    }

    #[test]
    fn a_character_in_two_pieces_is_shown_whole() {
        let bytes = "é🦀".as_bytes();
        for cut in 0..=bytes.len() {
            let mut stream = Output::from(bytes[..cut].to_vec());
            let mut shown = stream.take_complete().terminal();
            stream.append(&Output::from(bytes[cut..].to_vec()), 1024);
            shown += &stream.take_complete().terminal();
            assert_eq!((shown.as_str(), stream.len()), ("é🦀", 0), "cut at {cut}");
        }
        let mut broken = Output::from(b"\xffa\xf0\x9f".to_vec());
        assert_eq!(broken.take_complete().terminal(), "\\xffa");
        assert_eq!(broken.terminal(), "\\xf0\\x9f");
    }

    #[test]
    fn appending_stops_at_the_limit() {
        let mut all = output("abc");
        all.append(&output("defg"), 5);
        all.append(&output("h"), 5);
        assert_eq!(all.terminal(), "abcde");
    }

    fn is_harmless(text: &str) -> bool {
        text.chars()
            .all(|char| !is_hidden(char) && (char >= ' ' || "\n\t".contains(char)))
    }

    proptest! {
        #[test]
        fn nothing_a_terminal_or_browser_acts_on_ever_comes_out(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            text in any::<String>(),
        ) {
            for output in [Output::from(bytes), output(&text)] {
                for shown in [output.terminal(), output.plain(), output.to_string(), output.json(),
                    format!("{output:?}"), output.html().to_string()] {
                    prop_assert!(is_harmless(&shown), "{shown:?}");
                }
                let html = output.html().to_string();
                let bare = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"]
                    .iter().fold(html, |html, entity| html.replace(entity, ""));
                prop_assert!(!bare.contains(['<', '>', '&', '"', '\'']));
                prop_assert!(!output.json().contains(['\n', '\t']));
                let stored = serde_json::to_string(&output).unwrap();
                prop_assert!(stored.is_ascii() && is_harmless(&stored));
                prop_assert_eq!(serde_json::from_str::<Output>(&stored).unwrap(), output);
            }
        }
    }
}
