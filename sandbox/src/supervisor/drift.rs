//! System calls that the running kernel has and our table does not know.
//!
//! Called once, at the supervisor's start. A newer kernel is no weakness by itself, as what is not
//! known is not allowed; but whoever wrote the policies did not know these calls, so the report
//! says that they are there.
//!
//! How it is found out: a child makes every number that the table does not know, with all bits of
//! all arguments set, and looks for `ENOSYS`. Such arguments are no descriptor, no address, no
//! process and no known flag. The child has an id of its own, no capability, no descriptor but a
//! pipe, no right to make a file or a process, and own namespaces for processes, mounts, network,
//! names and shared memory; a call that does something all the same does it to the child only,
//! which is killed, and its number counts as known to the kernel. Names in `/proc/kallsyms` would
//! be gentler, but hold no numbers and are not everywhere.

use std::{
    io::{self, Read as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::{Gid, Uid, pipe2, setgroups, setresgid, setresuid, setsid, write},
};

use super::host::Host;
use crate::{
    cell,
    policy::{Arch, table},
    sys::{
        self, bare,
        process::{self, Forked},
    },
    wire::NotInForce,
};

/// All numbers together take less than a millisecond.
const TIME_MAX: Duration = Duration::from_secs(2);
/// Most children: each but the first comes after a call that did not return.
const CHILDREN_MAX: usize = 8;
/// Most numbers that are named in a report.
const NAMED_MAX: usize = 16;
/// A child of its own in everything; the user namespace of a person is the supervisor's.
const NAMESPACES: i32 = libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// What the report says about calls that only this kernel knows; nothing when there are none.
pub(super) fn check(host: &Host) -> Option<NotInForce> {
    let unknown: Vec<i64> = table::unknown(Arch::HOST).collect();
    let id = host.root.then(|| host.cell_id(0));
    describe(probe(&unknown, NAMESPACES, &|pipe| alone(id, pipe)))
}

fn describe(found: Result<Vec<i64>, String>) -> Option<NotInForce> {
    let (what, why) = match found {
        Ok(numbers) if numbers.is_empty() => return None,
        Ok(numbers) => {
            let named: Vec<String> = numbers
                .iter()
                .take(NAMED_MAX)
                .map(ToString::to_string)
                .collect();
            let more = numbers.len() - named.len();
            let more = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more")
            };
            (
                "kernel newer than known",
                format!(
                    "it has system calls that no policy knows: {}{more}; no cell can make them",
                    named.join(", ")
                ),
            )
        }
        Err(why) => ("comparison with this kernel's system calls", why),
    };
    Some(NotInForce {
        what: what.to_owned(),
        why,
    })
}

/// Those of the numbers that the kernel knows. `enter` runs in each child before the first call and
/// leaves it a descriptor for the results.
fn probe(
    numbers: &[i64],
    namespaces: i32,
    enter: &dyn Fn(OwnedFd) -> Result<OwnedFd, String>,
) -> Result<Vec<i64>, String> {
    let (mut known, mut rest) = (Vec::new(), numbers);
    for _ in 0..CHILDREN_MAX {
        let text = |error: &dyn std::fmt::Display| format!("no child to ask with: {error}");
        let (results, tell) = pipe2(OFlag::O_CLOEXEC).map_err(|e| text(&e))?;
        let (pid, pidfd) = match process::fork(namespaces).map_err(|e| text(&e))? {
            Forked::Child => {
                drop(results);
                if let Ok(tell) = enter(tell) {
                    ask(rest, tell.as_fd());
                    std::mem::forget(tell);
                }
                process::exit_now(0)
            }
            Forked::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop(tell);
        let answers = collect(results, 1 + rest.len());
        let _dead_already = process::kill(pidfd.as_fd());
        process::reap(pid).map_err(|e| text(&e))?;
        let answers = answers.map_err(|e| text(&e))?;
        let Some((_, answers)) = answers.split_first() else {
            return Err(text(&"it did not get ready"));
        };
        let told = rest.iter().zip(answers);
        known.extend(
            told.filter(|(_, answer)| **answer != -i64::from(libc::ENOSYS))
                .map(|(number, _)| *number),
        );
        match rest.get(answers.len()..) {
            None | Some([]) => return Ok(known),
            // No answer: the call has done something, so the kernel knows it.
            Some([number, others @ ..]) => {
                known.push(*number);
                rest = others;
            }
        }
    }
    Err(format!(
        "too many calls do not return; the last was {}",
        known.last().copied().unwrap_or(-1)
    ))
}

/// Gives up everything but the pipe.
fn alone(id: Option<u32>, pipe: OwnedFd) -> Result<OwnedFd, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    setsid().map_err(|e| text(&e))?;
    cell::prepare_powers()?; // needs CAP_SETPCAP, so it comes before the ids
    if let Some(id) = id {
        setgroups(&[]).map_err(|e| text(&e))?;
        setresgid(Gid::from_raw(id), Gid::from_raw(id), Gid::from_raw(id)).map_err(|e| text(&e))?;
        setresuid(Uid::from_raw(id), Uid::from_raw(id), Uid::from_raw(id)).map_err(|e| text(&e))?;
    }
    cell::drop_powers()?;
    // After the change of ids, which clears it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| text(&e))?;
    sys::place(pipe.as_fd(), 0).map_err(|e| text(&e))?;
    std::mem::forget(pipe); // closed below
    sys::close_from(1).map_err(|e| text(&e))?;
    for resource in [
        Resource::RLIMIT_CORE,
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_NPROC,
        Resource::RLIMIT_MEMLOCK,
    ] {
        setrlimit(resource, 0, 0).map_err(|e| text(&e))?;
    }
    setrlimit(Resource::RLIMIT_NOFILE, 1, 1).map_err(|e| text(&e))?;
    Ok(sys::own(0))
}

/// Tells that it is ready, then the answer to each number.
fn ask(numbers: &[i64], pipe: BorrowedFd<'_>) {
    let tell = |number: i64| write(pipe, &number.to_ne_bytes()).is_ok();
    let _ready = tell(0)
        && numbers
            .iter()
            .all(|one| tell(bare::call(*one, [u64::MAX; 6])));
}

/// Reads numbers until there are enough, the child is dead, or it says nothing any more.
fn collect(pipe: OwnedFd, count: usize) -> io::Result<Vec<i64>> {
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let (mut file, mut bytes) = (std::fs::File::from(pipe), Vec::new());
    let end = Instant::now() + TIME_MAX;
    while bytes.len() < count * size_of::<i64>() {
        let left = end.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        if poll(&mut fds, timeout)? == 0 {
            break;
        }
        let mut piece = [0; 4096];
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&piece[..read]);
    }
    let numbers = bytes.chunks_exact(size_of::<i64>());
    Ok(numbers
        .map(|one| i64::from_ne_bytes(one.try_into().expect("eight bytes")))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_answer_end_or_hang_are_told_from_those_that_are_not_there() {
        // All bits set is no descriptor; but any number is one to exit with, and a pause has none.
        let known = ["close", "exit_group", "getpid"];
        let known = known.map(|name| table::number(Arch::HOST, name).expect("a call"));
        let asked = [2000, known[0], known[1], 2001, known[2], 2002];
        let found = probe(&asked, 0, &Ok).expect("a child can be made");
        assert_eq!(found, known);
        let pause = table::number(Arch::X86_64, "pause").expect("a call");
        if Arch::HOST == Arch::X86_64 {
            assert_eq!(probe(&[pause, 2000], 0, &Ok), Ok(vec![pause]));
        }
        assert_eq!(probe(&[2000], 0, &Ok), Ok(Vec::new()));
        let fails = probe(&[2000], 0, &|_| Err(String::new()));
        assert!(fails.is_err_and(|why| why.contains("did not get ready")));
        let ends = vec![known[1]; CHILDREN_MAX + 1];
        assert!(probe(&ends, 0, &Ok).is_err());
    }

    #[test]
    fn a_newer_kernel_is_told_with_its_numbers() {
        assert_eq!(describe(Ok(Vec::new())), None);
        let told = describe(Ok(vec![472, 473])).expect("something is told");
        assert_eq!(told.what, "kernel newer than known");
        assert!(told.why.contains("472, 473; no cell"), "{}", told.why);
        let told = describe(Ok((500..600).collect())).expect("something is told");
        assert!(told.why.contains("515 and 84 more"), "{}", told.why);
        assert!(describe(Err("no".to_owned())).is_some_and(|told| told.why == "no"));
        assert!(!told.is_limit());
    }
}
