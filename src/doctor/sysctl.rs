//! Settings of the kernel that decide whether cells can be made, or what stands behind them.
//!
//! Sources: the kernel's `Documentation/admin-guide/sysctl`, and the distributions' own patches.

use std::{fs, ops::RangeInclusive, path::Path};

use super::{Finding, State};

/// What to do when user namespaces are denied.
pub(super) const HOW_USERNS: &str = "as root: sysctl -w user.max_user_namespaces=15000, \
     kernel.unprivileged_userns_clone=1 (Debian), \
     kernel.apparmor_restrict_unprivileged_userns=0 or an AppArmor profile with `userns,` for \
     hotcell (Ubuntu); or start hotcell as root";

/// One setting.
struct Setting {
    /// Path below `/proc/sys`, with dots as sysctl(8) writes it.
    name: &'static str,
    /// Values that are as they should be.
    good: RangeInclusive<i64>,
    /// When they are not.
    state: State,
    why: &'static str,
    todo: &'static str,
}

const SETTINGS: [Setting; 15] = [
    Setting {
        name: "kernel.unprivileged_userns_clone",
        good: 1..=1,
        state: State::Warning,
        why: "ordinary users may not make user namespaces: rootless cells cannot be made",
        todo: HOW_USERNS,
    },
    Setting {
        name: "kernel.apparmor_restrict_unprivileged_userns",
        good: 0..=0,
        state: State::Warning,
        why: "AppArmor takes the capabilities of user namespaces: rootless cells cannot be made",
        todo: HOW_USERNS,
    },
    Setting {
        name: "user.max_user_namespaces",
        good: 256..=i64::MAX,
        state: State::Warning,
        why: "few user namespaces are allowed: each cell needs one, rootless one more",
        todo: HOW_USERNS,
    },
    Setting {
        name: "user.max_mnt_namespaces",
        good: 256..=i64::MAX,
        state: State::Warning,
        why: "few mount namespaces are allowed: each cell needs one",
        todo: "sysctl -w user.max_mnt_namespaces=15000",
    },
    Setting {
        name: "user.max_net_namespaces",
        good: 256..=i64::MAX,
        state: State::Warning,
        why: "few network namespaces are allowed: each cell and each relay needs one",
        todo: "sysctl -w user.max_net_namespaces=15000",
    },
    Setting {
        name: "kernel.io_uring_disabled",
        good: 1..=i64::MAX,
        state: State::Warning,
        why: "other programs may use io_uring, a rich source of kernel bugs; cells may not",
        todo: "sysctl -w kernel.io_uring_disabled=2, unless something here needs it",
    },
    Setting {
        name: "dev.tty.legacy_tiocsti",
        good: 0..=0,
        state: State::Warning,
        why: "a program may type into its terminal; cells have none",
        todo: "sysctl -w dev.tty.legacy_tiocsti=0",
    },
    Setting {
        name: "fs.protected_symlinks",
        good: 1..=1,
        state: State::Warning,
        why: "links in shared folders are followed for everybody",
        todo: "sysctl -w fs.protected_symlinks=1",
    },
    Setting {
        name: "fs.protected_hardlinks",
        good: 1..=1,
        state: State::Warning,
        why: "anybody may make hard links to files of others",
        todo: "sysctl -w fs.protected_hardlinks=1",
    },
    Setting {
        name: "fs.protected_fifos",
        good: 1..=i64::MAX,
        state: State::Warning,
        why: "pipes in shared folders are opened for everybody",
        todo: "sysctl -w fs.protected_fifos=1",
    },
    Setting {
        name: "fs.protected_regular",
        good: 1..=i64::MAX,
        state: State::Warning,
        why: "files of others in shared folders are opened with O_CREAT",
        todo: "sysctl -w fs.protected_regular=1",
    },
    Setting {
        name: "kernel.yama.ptrace_scope",
        good: 1..=i64::MAX,
        state: State::Warning,
        why: "processes of one user may read each other's memory; rootless, all roles are one user",
        todo: "sysctl -w kernel.yama.ptrace_scope=1",
    },
    Setting {
        name: "kernel.unprivileged_bpf_disabled",
        good: 1..=i64::MAX,
        state: State::Warning,
        why: "ordinary users may load BPF programs, a rich source of kernel bugs; cells may not",
        todo: "sysctl -w kernel.unprivileged_bpf_disabled=2",
    },
    Setting {
        name: "kernel.kptr_restrict",
        good: 1..=i64::MAX,
        state: State::Warning,
        why: "addresses of the kernel can be read by ordinary users; cells have no /proc",
        todo: "sysctl -w kernel.kptr_restrict=1",
    },
    Setting {
        name: "vm.overcommit_memory",
        good: 0..=1,
        state: State::Warning,
        why: "the kernel promises no more memory than it has: the Go tools, which reserve much and \
              use little, may fail",
        todo: "sysctl -w vm.overcommit_memory=0",
    },
];

/// All settings that this kernel has.
pub(super) fn findings() -> Vec<Finding> {
    SETTINGS
        .iter()
        .filter_map(|it| it.look(Path::new("/proc/sys")))
        .collect()
}

impl Setting {
    /// Nothing when the kernel does not have it: then it does not restrict, or does not offer.
    fn look(&self, root: &Path) -> Option<Finding> {
        let text = fs::read_to_string(root.join(self.name.replace('.', "/"))).ok()?;
        let value: i64 = text.split_whitespace().next()?.parse().ok()?;
        if self.good.contains(&value) {
            return Some(Finding::ok(self.name, value.to_string()));
        }
        let says = format!("{value}: {}", self.why);
        Some(Finding {
            state: self.state,
            ..Finding::warning(self.name, says, self.todo)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn settings_are_judged_by_their_value_and_absent_ones_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("user/max_user_namespaces");
        let setting = &SETTINGS[2];
        assert_eq!(setting.look(root.path()), None);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for (value, state) in [
            ("0\n", State::Warning),
            ("255", State::Warning),
            ("256", State::Ok),
        ] {
            fs::File::create(&path)
                .unwrap()
                .write_all(value.as_bytes())
                .unwrap();
            let found = setting.look(root.path()).unwrap();
            assert_eq!(found.state, state, "{value}");
            assert_eq!(found.todo.is_empty(), state == State::Ok);
        }
    }
}
