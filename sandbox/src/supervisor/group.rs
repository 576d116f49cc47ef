//! The control group of one cell: its limits, its counters, its end.
//!
//! Limits are written before the first process is made in the group, and read back. Counters are
//! read while the group is there: they vanish with it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::cgroup::{Controllers, read, write};

/// Part of the processor that a cell gets when others want it too; the default of others is 100.
const CPU_WEIGHT: u64 = 20;

/// What a group is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupLimits {
    /// All processes together, and the files of the scratch file system.
    pub(super) memory_bytes: u64,
    /// All threads and processes.
    pub(super) processes: u64,
}

/// A group in which a cell lives.
#[derive(Debug)]
pub(super) struct Group {
    name: String,
    folder: OwnedFd,
    /// What the kernel took, for the report.
    in_force: String,
    limits: GroupLimits,
}

/// What the kernel counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// How often a process was killed for want of memory.
    pub(super) killed_for_memory: u64,
    /// Most memory at a time; not every kernel tells it.
    pub(super) memory_peak_bytes: Option<u64>,
    /// How often no process could be made.
    pub(super) forks_refused: u64,
    /// Processor time.
    pub(super) cpu_us: Option<u64>,
}

impl Group {
    /// Sets the limits of a group that has just been made.
    pub(super) fn new(
        name: String,
        folder: OwnedFd,
        controllers: Controllers,
        limits: &GroupLimits,
    ) -> Result<Self, String> {
        let mut group = Self {
            name,
            folder,
            in_force: String::new(),
            limits: *limits,
        };
        let mut said = Vec::new();
        if controllers.memory {
            let taken = group.set("memory.max", limits.memory_bytes)?;
            group.set("memory.oom.group", 1)?;
            // The file is not there where the kernel does not count swap.
            let swap = match group.set("memory.swap.max", 0) {
                Ok(_) => "no swap",
                Err(_) => "swap not counted",
            };
            said.push(format!("memory {} MiB, {swap}", taken >> 20));
        }
        if controllers.pids {
            let taken = group.set("pids.max", limits.processes)?;
            said.push(format!("{taken} processes"));
        }
        if controllers.cpu {
            let taken = group.set("cpu.weight", CPU_WEIGHT)?;
            said.push(format!("processor weight {taken}"));
        }
        group.in_force = format!("control group: {}, killed as one", said.join(", "));
        Ok(group)
    }

    /// Writes a limit and reads back what the kernel made of it: at most what was asked for.
    fn set(&self, file: &str, value: u64) -> Result<u64, String> {
        let text = value.to_string();
        write(self.as_fd(), file, &text).map_err(|e| format!("`{file}`: {e}"))?;
        let taken = read(self.as_fd(), file)?;
        let taken = taken.trim().parse().ok().filter(|taken| *taken <= value);
        taken.ok_or_else(|| format!("`{file}` does not keep {value}"))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Whether a process is in the group.
    pub(super) fn holds(&self, pid: i32) -> Result<bool, String> {
        let processes = read(self.as_fd(), "cgroup.procs")?;
        Ok(processes.lines().any(|line| line == pid.to_string()))
    }

    /// Phrase for the report.
    pub(super) fn in_force(&self) -> &str {
        &self.in_force
    }

    pub(super) fn limits(&self) -> GroupLimits {
        self.limits
    }

    /// Kills every process in it at once.
    pub(super) fn kill(&self) {
        // The death of the first process kills the rest as well, a little later.
        let _second_way = write(self.as_fd(), "cgroup.kill", "1");
    }

    /// What was counted so far; what cannot be read counts as nothing.
    pub(super) fn counters(&self) -> Counters {
        let file = |name: &str| read(self.as_fd(), name).unwrap_or_default();
        let events = file("memory.events");
        Counters {
            killed_for_memory: value(&events, "oom_kill").unwrap_or(0)
                + value(&events, "oom_group_kill").unwrap_or(0),
            memory_peak_bytes: file("memory.peak").trim().parse().ok(),
            forks_refused: value(&file("pids.events"), "max").unwrap_or(0),
            cpu_us: value(&file("cpu.stat"), "usage_usec"),
        }
    }

    pub(super) fn into_name(self) -> String {
        self.name
    }
}

/// The number of a line `name number`.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, number) = line.split_once(' ')?;
        (key == name).then(|| number.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let events = "low 0\nhigh 0\nmax 41\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(value(events, "oom_kill"), Some(2));
        assert_eq!(value(events, "oom"), Some(3));
        assert_eq!(value(events, "oom_group_kill"), Some(1));
        assert_eq!(value("max 7\n", "max"), Some(7));
    }

    #[test]
    fn odd_contents_count_as_nothing() {
        for text in [
            "",
            "max",
            "max \n",
            "max x\n",
            "max -1\n",
            "max 18446744073709551616\n",
            "maximum 3\n",
            " max 3\n",
            "max\t3\n",
        ] {
            assert_eq!(value(text, "max"), None, "{text:?}");
        }
    }
}
