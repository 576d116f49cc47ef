//! The kernel: version, Landlock, seccomp, namespaces, mounts, and the settings that matter.
//!
//! Must be called before this process has any thread: attempts are made in children.

use std::fs;

use hotcell_sandbox::probe;
use nix::sys::utsname::uname;

use super::{Finding, sysctl};

/// Oldest kernel on which everything that a policy requires exists: Landlock ABI 2.
const KERNEL_MIN: (u32, u32) = (5, 19);
/// Landlock ABI that a policy requires, and the newest that this program uses.
const LANDLOCK_MIN: u8 = 2;
const LANDLOCK_USED: u8 = 6;
/// Actions of seccomp that a cell's filters use.
const ACTIONS: [&str; 4] = ["kill_process", "errno", "user_notif", "allow"];

/// Everything about the kernel.
#[must_use]
pub fn findings() -> Vec<Finding> {
    let mut all = vec![version(), architecture(), landlock(), errata(), seccomp()];
    // Every other kind is made together with one of these, so they would all say the same.
    let user = namespace("user");
    let denied = user.no_cell;
    all.push(user);
    if !denied {
        let others = probe::NAMESPACES.into_iter().filter(|name| *name != "user");
        all.extend(others.map(namespace));
        all.extend([whole(), overlay(), time_namespace()]);
    }
    all.extend(sysctl::findings());
    all
}

fn version() -> Finding {
    let what = "kernel";
    let Ok(name) = uname() else {
        return Finding::warning(
            what,
            "the kernel does not tell its name",
            "tell us about it",
        );
    };
    let release = name.release().to_string_lossy().into_owned();
    match numbers(&release) {
        Some(found) if found >= KERNEL_MIN => Finding::ok(what, format!("Linux {release}")),
        _ => Finding::no_cell(
            what,
            format!("Linux {release}, and a cell needs 5.19"),
            "run a newer kernel: Debian 12 has 6.1",
        ),
    }
}

/// `6.1.0-30-amd64` → (6, 1)
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn architecture() -> Finding {
    let arch = std::env::consts::ARCH;
    match arch {
        "x86_64" => Finding::ok("architecture", arch),
        _ => Finding::no_cell(
            "architecture",
            format!("{arch}, for which policies have no system call numbers yet"),
            "use an x86_64 machine",
        ),
    }
}

fn landlock() -> Finding {
    let what = "landlock";
    match probe::landlock_abi() {
        0 => Finding::no_cell(
            what,
            "Landlock is not in this kernel, or not turned on",
            "boot with `lsm=` that names landlock (see /sys/kernel/security/lsm)",
        ),
        abi if abi < LANDLOCK_MIN => Finding::no_cell(
            what,
            format!("Landlock ABI {abi}, and a cell needs {LANDLOCK_MIN}"),
            "run Linux 5.19 or newer",
        ),
        abi if abi < LANDLOCK_USED => Finding::warning(
            what,
            format!("Landlock ABI {abi}; {LANDLOCK_USED} also denies connections and signals"),
            "run Linux 6.12 or newer; namespaces and seccomp deny the same until then",
        ),
        abi => Finding::ok(what, format!("Landlock ABI {abi}")),
    }
}

fn errata() -> Finding {
    let what = "landlock errata";
    match probe::landlock_errata() {
        Ok(bits) => Finding::ok(what, format!("this kernel says it has mended: {bits:#x}")),
        Err(_) => Finding::warning(
            what,
            "this kernel does not tell which errors of Landlock it has mended",
            "nothing, when your distribution mends its kernels; Linux 6.15 tells",
        ),
    }
}

fn seccomp() -> Finding {
    let what = "seccomp";
    let todo = "run a kernel with CONFIG_SECCOMP_FILTER, 5.0 or newer";
    let Ok(text) = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") else {
        return Finding::no_cell(what, "the kernel has no system call filters", todo);
    };
    let known: Vec<&str> = text.split_whitespace().collect();
    let missing: Vec<&str> = ACTIONS
        .into_iter()
        .filter(|it| !known.contains(it))
        .collect();
    if missing.is_empty() {
        // A filter of a process with one thread needs no TSYNC; all such kernels have it (3.17).
        return Finding::ok(what, "filters, notification of the supervisor, kill, TSYNC");
    }
    let says = format!("the kernel lacks the actions {}", missing.join(", "));
    Finding::no_cell(what, says, todo)
}

fn namespace(name: &'static str) -> Finding {
    let what = format!("namespace {name}");
    match probe::namespace(name) {
        Ok(()) => Finding::ok(&what, "can be made by this user"),
        Err(error) => {
            // ENOSPC is how the kernel says so (user_namespaces(7)).
            let why = match error.raw_os_error() {
                Some(libc::ENOSPC) => "the limit of user.max_*_namespaces is reached".to_owned(),
                _ => error.to_string(),
            };
            let says = format!("cannot be made by this user: {why}");
            Finding::no_cell(&what, says, sysctl::HOW_USERNS)
        }
    }
}

fn whole() -> Finding {
    let what = "namespaces together";
    match probe::whole() {
        Ok(()) => Finding::ok(what, "all seven at once, with one mapped id"),
        Err(error) => {
            Finding::no_cell(what, format!("cannot be made: {error}"), sysctl::HOW_USERNS)
        }
    }
}

fn overlay() -> Finding {
    let what = "overlay";
    match probe::overlay() {
        Ok(()) => Finding::ok(what, "overlayfs with userxattr, by the new mount calls"),
        Err(error) => Finding::no_cell(
            what,
            format!("no overlayfs with userxattr in a user namespace: {error}"),
            "load the module `overlay` (modprobe overlay); it needs Linux 5.19, and AppArmor \
             must leave user namespaces their capabilities",
        ),
    }
}

fn time_namespace() -> Finding {
    let what = "namespace time";
    if fs::exists("/proc/self/ns/time").unwrap_or(false) {
        return Finding::ok(what, "the kernel has them; no policy needs them");
    }
    let says = "the kernel has none; no policy needs them";
    Finding::ok(what, says)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_compared_as_numbers() {
        for (release, wanted) in [
            ("6.1.0-30-amd64", Some((6, 1))),
            ("5.19+", Some((5, 19))),
            ("10.0-rc1", Some((10, 0))),
            ("6", None),
            ("x.y", None),
        ] {
            assert_eq!(numbers(release), wanted, "{release}");
        }
        assert!(numbers("5.4.0") < Some(KERNEL_MIN) && numbers("6.1.0") > Some(KERNEL_MIN));
    }
}
