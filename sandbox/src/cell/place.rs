//! Where things are inside a cell. Constants, because the go command's cache entries must not
//! depend on the host; `-trimpath` keeps them out of binaries.

use crate::policy::PlaceKind;

/// Every kind of mount, its word in the policy language, and its path.
pub(crate) const ALL: [(PlaceKind, &str, &str); 8] = [
    (PlaceKind::Root, "root", "/"),
    (PlaceKind::Sdk, "sdk", SDK),
    (PlaceKind::Home, "home", HOME),
    (PlaceKind::Tmp, "tmp", TMP),
    (PlaceKind::Cache, "cache", CACHE),
    (PlaceKind::Null, "null", NULL),
    (PlaceKind::Program, "program", PROGRAM),
    (PlaceKind::Command, "command", GO),
];

/// `GOROOT`
pub(crate) const SDK: &str = "/sdk";
/// The go command.
pub(crate) const GO: &str = "/sdk/bin/go";
/// `HOME`
pub(crate) const HOME: &str = "/home";
/// `GOPATH`
pub(crate) const GOPATH: &str = "/home/go";
/// Where `go install` puts the binary.
pub(crate) const BIN: &str = "/home/go/bin";
/// `GOMODCACHE`
pub(crate) const MODULES: &str = "/home/go/pkg/mod";
/// `GOCACHE`
pub(crate) const CACHE: &str = "/home/cache";
/// `TMPDIR`
pub(crate) const TMP: &str = "/tmp";
/// The one device.
pub(crate) const NULL: &str = "/dev/null";
/// A program in the place of the go command.
pub(crate) const PROGRAM: &str = "/program";
/// The relay listens here.
pub(crate) const RELAY_PORT: u16 = 8080;
/// The one id inside, of user and group.
pub(crate) const ID: u32 = 1000;
/// What `uname` shows.
pub(crate) const HOST_NAME: &str = "hotcell";
