//! The grammar of requests: everything that a cell's arguments, environment and mounts are made of.
//!
//! Called before anything is done. Deliberately its own, narrow and short: the asker parses what
//! people type, this only has to be sure that a field is what it is used as.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::{SFlag, fstat},
};

use super::{Settings, job, legacy};
use crate::{
    cell::PROGRAM_BYTES_MAX,
    policy::{PlaceKind, Policy},
    store::{self, Name},
    wire::{CellRequest, Job},
};

/// Longest package path: what the module proxy and file names allow.
const PACKAGE_BYTES_MAX: usize = 512;
/// Longest version.
const VERSION_BYTES_MAX: usize = 128;
/// Most arguments of a program, and most bytes of all of them.
const ARGS_MAX: usize = 64;
const ARGS_BYTES_MAX: usize = 16 * 1024;

/// A request that has been checked.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) request: CellRequest,
    pub(super) policy: Rc<Policy>,
    /// Minor version of Go, for what its environment needs.
    pub(super) go_minor: u32,
    pub(super) sdk: Name,
    /// The go command that lies over the SDK's own, where that is not static.
    pub(super) command: Option<Name>,
    /// Where this SDK, target and flags have their standard library.
    pub(super) std: Name,
    pub(super) wall_ms: u64,
    pub(super) scratch_bytes: u64,
    /// Of all processes together.
    pub(super) memory_bytes: u64,
}

impl Order {
    /// Processors that the cell runs on: at most the policy's, at most those that we have.
    pub(super) fn processors(&self) -> usize {
        let ours = std::thread::available_parallelism().map_or(1, usize::from);
        usize::try_from(self.policy.limits().processors).map_or(ours, |max| max.min(ours))
    }
}

/// Descriptors of a request for a cell.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) session: OwnedFd,
    pub(super) talk: OwnedFd,
    pub(super) artifact: OwnedFd,
    pub(super) program: Option<OwnedFd>,
}

/// Checks a request for a cell.
///
/// # Errors
/// One sentence that names what is wrong.
pub(super) fn check(request: CellRequest, settings: &Settings) -> Result<Order, String> {
    let policy = settings
        .policies
        .iter()
        .find(|known| known.sha256() == request.policy);
    let policy = Rc::clone(policy.ok_or("there is no policy with this hash")?);
    let go_minor = go_minor(&request.go).ok_or("the Go version is not of the form `go1.26.8`")?;
    if go_numbers(&request.go).is_none_or(|numbers| numbers < legacy::OLDEST) {
        let (minor, patch) = legacy::OLDEST;
        return Err(format!("Go before 1.{minor}.{patch} is not built"));
    }
    if !is_word(&request.goos) || !is_word(&request.goarch) {
        return Err("the target is not made of small letters and digits".to_owned());
    }
    let digest = store::digest_hex(&request.sdk).ok_or("the SDK's hash is no `h1:`")?;
    let sdk = Name::sdk(digest);
    let header = store::header(&sdk).ok_or("this SDK was not adopted")?;
    if header.title != request.go {
        return Err(format!("the SDK with this hash is {}", header.title));
    }
    let std = Name::std(&request.sdk, &request.goos, &request.goarch, job::STD_FLAGS);
    if request.frozen && store::header(&std).is_none() {
        return Err("there is no frozen standard library for this SDK and target".to_owned());
    }
    match &request.job {
        Job::Std if request.frozen => {
            return Err("a frozen cache cannot lie below the one that is made".to_owned());
        }
        Job::Std => {}
        Job::Command => legacy::check(&request, go_minor)?,
        Job::List { .. } if go_minor < legacy::STATIC_SINCE || request.frozen => {
            return Err("commands are listed with newer Go, and nothing frozen".to_owned());
        }
        Job::List {
            module: package,
            version,
        }
        | Job::Install {
            package, version, ..
        } => {
            if !is_package(package) {
                return Err("the package path has a form that is never built".to_owned());
            }
            if !is_version(version) {
                return Err("the version is not of the form `v1.2.3`".to_owned());
            }
        }
        Job::Program { args, .. } => {
            let bytes: usize = args.iter().map(String::len).sum();
            let fits = args.len() <= ARGS_MAX && bytes <= ARGS_BYTES_MAX;
            if !fits || args.iter().any(|arg| arg.contains('\0')) {
                return Err("the program's arguments are too long".to_owned());
            }
        }
    }
    let command = command(&request, go_minor, &policy)?;
    let wall_ms = request
        .wall_ms_max
        .unwrap_or(u64::MAX)
        .min(policy.limits().wall_ms);
    let scratch_bytes = policy
        .limits()
        .scratch_bytes
        .min(settings.scratch_bytes_max);
    let memory_bytes = policy
        .limits()
        .cell_memory_bytes
        .min(settings.memory_bytes_max);
    Ok(Order {
        request,
        policy,
        go_minor,
        sdk,
        command,
        std,
        wall_ms,
        scratch_bytes,
        memory_bytes,
    })
}

/// The go command for an SDK whose own cannot run: the driver where one is made, else what it made.
fn command(request: &CellRequest, minor: u32, policy: &Policy) -> Result<Option<Name>, String> {
    if minor >= legacy::STATIC_SINCE {
        return Ok(None);
    }
    let name = if request.job == Job::Command {
        legacy::driver()
    } else {
        legacy::made(&request.sdk)
    };
    if store::header(&name).is_none() {
        return Err("the go command for this SDK was not made".to_owned());
    }
    if policy.place(PlaceKind::Command).is_none() {
        return Err("the policy has no place for the go command of this SDK".to_owned());
    }
    Ok(Some(name))
}

/// Checks the descriptors that came with a request for a cell.
///
/// # Errors
/// One sentence that names what is wrong.
pub(super) fn descriptors(job: &Job, all: Vec<OwnedFd>) -> Result<Descriptors, String> {
    let mut all = all.into_iter();
    let mut next = |what: &str, kind: SFlag, access: OFlag| -> Result<OwnedFd, String> {
        let fd = all
            .next()
            .ok_or_else(|| format!("the descriptor of {what} is missing"))?;
        let mode = fstat(&fd).map_err(|e| format!("{what}: {e}"))?.st_mode;
        let flags = fcntl(fd.as_fd(), FcntlArg::F_GETFL).map_err(|e| format!("{what}: {e}"))?;
        let flags = OFlag::from_bits_truncate(flags);
        let is = SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits());
        if is != kind || flags & OFlag::O_ACCMODE != access || flags.contains(OFlag::O_PATH) {
            return Err(format!("the descriptor of {what} is of a wrong kind"));
        }
        Ok(fd)
    };
    let session = next("the session", SFlag::S_IFSOCK, OFlag::O_RDWR)?;
    let talk = next("the asker", SFlag::S_IFSOCK, OFlag::O_RDWR)?;
    // Read back by the gate, which looks for build information in what it has written.
    let artifact = next("the artifact", SFlag::S_IFREG, OFlag::O_RDWR)?;
    let program = match job {
        Job::Program { .. } => {
            let program = next("the program", SFlag::S_IFREG, OFlag::O_RDONLY)?;
            let bytes = fstat(&program)
                .map_err(|e| format!("the program: {e}"))?
                .st_size;
            if u64::try_from(bytes).is_ok_and(|bytes| bytes > PROGRAM_BYTES_MAX) {
                return Err("the program is too large".to_owned());
            }
            Some(program)
        }
        _ => None,
    };
    if all.next().is_some() {
        return Err("too many descriptors".to_owned());
    }
    Ok(Descriptors {
        session,
        talk,
        artifact,
        program,
    })
}

/// `go1.26.8` → 26.
pub(super) fn go_minor(text: &str) -> Option<u32> {
    go_numbers(text).map(|(minor, _)| minor)
}

/// `go1.26.8` → 26 and 8. The first release of a line has its `.0` from Go 1.21 on, and no second
/// number before (<https://go.dev/doc/toolchain#version>).
fn go_numbers(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("go1.")?.split('.');
    let number = |text: &str| -> Option<u32> {
        let plain = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
    };
    let minor = number(numbers.next()?)?;
    let patch = match numbers.next().map(number) {
        None if minor < legacy::STATIC_SINCE => 0,
        Some(Some(0)) if minor < legacy::STATIC_SINCE => return None,
        patch => patch??,
    };
    numbers.next().is_none().then_some((minor, patch))
}

fn is_word(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=16).contains(&text.len()) && text.bytes().all(plain)
}

/// An import path below a module path (<https://go.dev/ref/mod#go-mod-file-ident>). A leading
/// hyphen would be a flag of the go command, a leading dot a folder, an at sign a version, three
/// dots a pattern.
fn is_package(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+".contains(&b);
    let element = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part != "."
            && part != ".."
            && !part.ends_with('.')
            && part.bytes().all(allowed)
    };
    let domain = text
        .split('/')
        .next()
        .is_some_and(|first| first.contains('.'));
    let named = !text.starts_with('.') && !text.contains("...");
    text.len() <= PACKAGE_BYTES_MAX && domain && named && text.split('/').all(element)
}

fn is_version(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-.+".contains(&b);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let Some(rest) = text.strip_prefix('v') else {
        return false;
    };
    let core = rest.split(['-', '+']).next().unwrap_or_default();
    text.len() <= VERSION_BYTES_MAX
        && rest.bytes().all(allowed)
        && core.split('.').count() == 3
        && core.split('.').all(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_have_one_form() {
        assert_eq!(go_minor("go1.26.8"), Some(26));
        assert_eq!(go_minor("go1.21.0"), Some(21));
        assert_eq!(go_numbers("go1.20"), Some((20, 0)));
        assert_eq!(go_numbers("go1.13.15"), Some((13, 15)));
        for text in [
            "",
            "1.26.8",
            "go1.26",
            "go1.21",
            "go1.20.0",
            "go1.20.",
            "go1.26.08",
            "go1.26.8rc1",
            "go1.26.8.1",
            "go2.1.1",
            "go1.+1.1",
            "go1.9999.1",
        ] {
            assert_eq!(go_minor(text), None, "{text}");
        }
    }

    #[test]
    fn packages_cannot_be_flags_versions_or_other_paths() {
        for text in [
            "filippo.io/age/cmd/age",
            "rsc.io/2fa",
            "github.com/a/B_c~d+e",
            "a.b/v2",
        ] {
            assert!(is_package(text), "{text}");
        }
        let long = format!("a.b/{}", "x".repeat(PACKAGE_BYTES_MAX));
        for text in [
            "",
            "fmt",
            "-a.b/c",
            "a.b/-c",
            "a.b//c",
            "a.b/../c",
            "a.b/.",
            "/a.b",
            "a.b/",
            "a.b/c@v1",
            "a.b/c d",
            "a.b/c\0",
            "a.b/ü",
            "a.b/c...",
            "a.b/c...d",
            ".a.b/c",
            "./a.b",
            &long,
        ] {
            assert!(!is_package(text), "{text}");
        }
    }

    #[test]
    fn versions_are_pinned() {
        for text in [
            "v1.2.3",
            "v0.0.0-20200101000000-abcdefabcdef",
            "v2.0.0+incompatible",
        ] {
            assert!(is_version(text), "{text}");
        }
        let long = format!("v1.2.3-{}", "x".repeat(VERSION_BYTES_MAX));
        for text in [
            "", "latest", "v1", "v1.2", "1.2.3", "v1.2.3 ", "v1..3", "v1.2.3/x", "va.b.c",
            "v1.2.3.4", &long,
        ] {
            assert!(!is_version(text), "{text}");
        }
    }

    #[test]
    fn descriptors_must_be_of_their_kind() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let open = |read, write| {
            let mut options = std::fs::OpenOptions::new();
            OwnedFd::from(options.read(read).write(write).open(path.path()).unwrap())
        };
        let try_with = |job: &Job, files: Vec<OwnedFd>| {
            let (session, talk) = crate::channel::Channel::pair().unwrap();
            let sockets = [OwnedFd::from(session), OwnedFd::from(talk)];
            descriptors(job, sockets.into_iter().chain(files).collect()).is_ok()
        };
        let both = || open(true, true);
        assert!(try_with(&Job::Std, vec![both()]));
        assert!(!try_with(&Job::Std, vec![]));
        assert!(!try_with(&Job::Std, vec![open(false, true)]));
        assert!(!try_with(&Job::Std, vec![open(true, false)]));
        assert!(!try_with(&Job::Std, vec![both(), both()]));
        let program = Job::Program {
            args: Vec::new(),
            keep_going: false,
        };
        assert!(try_with(&program, vec![both(), open(true, false)]));
        assert!(!try_with(&program, vec![both(), both()]));
        assert!(!try_with(&program, vec![both()]));
        let (socket, other) = crate::channel::Channel::pair().unwrap();
        assert!(descriptors(&Job::Std, vec![both(), socket.into(), other.into()]).is_err());
    }

    proptest::proptest! {
        /// What the grammar accepts can be no flag, no other path and no second argument.
        #[test]
        fn whatever_is_accepted_is_harmless(text in "\\PC{0,40}|[-a-zA-Z0-9./@+~v]{0,40}") {
            if is_package(&text) {
                proptest::prop_assert!(!text.starts_with(['-', '/', '.']) && !text.contains("..."));
                proptest::prop_assert!(!text.contains(['@', ' ', '\0', ',', '=']));
            }
            if is_version(&text) {
                proptest::prop_assert!(text.starts_with('v') && !text.contains(['@', '/', ' ']));
            }
        }

        /// Bytes from the asker's socket never do more than fail to parse.
        #[test]
        fn garbage_is_no_request(bytes in proptest::collection::vec(0_u8.., 0..200)) {
            proptest::prop_assert!(serde_json::from_slice::<crate::wire::Request>(&bytes).is_err());
        }
    }
}
