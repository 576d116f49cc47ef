//! The fixed records of a zip file (PKWARE APPNOTE 6.3.10), as bytes and as fields.
//!
//! Nothing here decides what is accepted; `reader` does.

/// Bytes of an end record without comment (4.3.16).
pub(super) const END_BYTES: usize = 22;
/// Bytes of a zip64 end record without extensible data (4.3.14).
pub(super) const END64_BYTES: usize = 56;
/// Bytes of a zip64 end locator (4.3.15).
pub(super) const LOCATOR_BYTES: usize = 20;
/// Bytes of a directory header before name, extra field and comment (4.3.12).
pub(super) const CENTRAL_BYTES: usize = 46;
/// Bytes of a local header before name and extra field (4.3.7).
pub(super) const LOCAL_BYTES: usize = 30;
/// Bytes of a data descriptor with signature (4.3.9).
pub(super) const DESCRIPTOR_BYTES: usize = 16;

/// Signatures.
pub(super) const END: u32 = 0x0605_4b50;
pub(super) const END64: u32 = 0x0606_4b50;
pub(super) const LOCATOR: u32 = 0x0706_4b50;
pub(super) const CENTRAL: u32 = 0x0201_4b50;
pub(super) const LOCAL: u32 = 0x0403_4b50;
pub(super) const DESCRIPTOR: u32 = 0x0807_4b50;

/// Flag: sizes and checksum come in a descriptor after the data.
pub(super) const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// Flag: the name is UTF-8.
pub(super) const FLAG_UTF8: u16 = 1 << 11;
/// Flags: how hard the packer tried; without meaning for a reader.
pub(super) const FLAGS_LEVEL: u16 = 0b110;

/// Method: as is.
pub(super) const STORED: u16 = 0;
/// Method: deflate.
pub(super) const DEFLATED: u16 = 8;

/// Reads little-endian numbers from a slice whose length the caller has checked.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }
}

/// The fields that a local header and a directory header share, in the order of both (4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) version_needed: u16,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) time: u16,
    pub(super) date: u16,
    pub(super) crc: u32,
    pub(super) compressed: u32,
    pub(super) size: u32,
    pub(super) name_bytes: u16,
    pub(super) extra_bytes: u16,
}

impl Shared {
    /// Reads them from `at` on; 26 bytes.
    pub(super) fn read(fields: &Fields<'_>, at: usize) -> Self {
        Self {
            version_needed: fields.u16(at),
            flags: fields.u16(at + 2),
            method: fields.u16(at + 4),
            time: fields.u16(at + 6),
            date: fields.u16(at + 8),
            crc: fields.u32(at + 10),
            compressed: fields.u32(at + 14),
            size: fields.u32(at + 18),
            name_bytes: fields.u16(at + 22),
            extra_bytes: fields.u16(at + 24),
        }
    }

    /// Writes them.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for value in [
            self.version_needed,
            self.flags,
            self.method,
            self.time,
            self.date,
        ] {
            out.extend(value.to_le_bytes());
        }
        for value in [self.crc, self.compressed, self.size] {
            out.extend(value.to_le_bytes());
        }
        for value in [self.name_bytes, self.extra_bytes] {
            out.extend(value.to_le_bytes());
        }
    }
}
