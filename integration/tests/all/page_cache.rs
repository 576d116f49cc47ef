//! The page cache and the disk, made to differ: what `read` shows is not all that is checked.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use hotcell_integration::{command::Run, paths};

use crate::stores::{copy, put_away, tree, user};

/// An ext4 file system on a loop device of our own, gone with the guard.
struct Loop {
    device: String,
    mounted: PathBuf,
}

impl Loop {
    fn new(folder: &Path, megabytes: u64, mounted: &Path) -> Self {
        let image = folder.join("image");
        let file = File::create(&image).expect("our folder");
        file.set_len(megabytes << 20).expect("a sparse file");
        let mkfs = ["-q", "-F", "-b", "4096", "-O", "^has_journal"];
        Run::new("/usr/sbin/mkfs.ext4")
            .args(mkfs)
            .arg(&image)
            .succeed();
        let made = Run::new("losetup")
            .args(["--find", "--show"])
            .arg(&image)
            .succeed();
        let device = made.out().trim().to_owned();
        fs::create_dir_all(mounted).expect("our folder");
        let this = Self {
            device,
            mounted: mounted.to_owned(),
        };
        Run::new("mount").arg(&this.device).arg(mounted).succeed();
        this
    }

    /// Writes below the file system: what lies in the page cache of the file stays as it is.
    fn change_block(&self, file: &Path, change: impl Fn(&mut [u8])) {
        let told = Run::new("/usr/sbin/filefrag")
            .args(["-e", "-b4096"])
            .arg(file)
            .succeed();
        let told = told.out();
        let extent = told
            .lines()
            .find(|line| line.trim_start().starts_with("0:"));
        let physical = extent.and_then(|line| line.split(':').nth(2)?.split("..").next());
        let block: u64 = physical
            .expect("an extent")
            .trim()
            .parse()
            .expect("a number");
        let mut options = File::options();
        let disk = options
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_DIRECT);
        let disk = disk.open(&self.device).expect("a device of our own");
        let mut memory = vec![0; 8192];
        let from = memory.as_ptr().align_offset(4096);
        let page = &mut memory[from..from + 4096];
        disk.read_exact_at(page, block * 4096)
            .expect("the block is there");
        change(page);
        disk.write_all_at(page, block * 4096)
            .expect("the device takes it");
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        Run::new("umount").arg(&self.mounted).wait();
        Run::new("losetup").arg("--detach").arg(&self.device).wait();
    }
}

/// Has the kernel forget the cached pages of a file, so that the next read asks the disk.
fn forget(file: &Path) {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    let file = File::open(file).expect("the file is there");
    let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    posix_fadvise(&file, 0, 0, advice).expect("advice is taken");
}

#[test]
fn a_change_of_the_page_cache_alone_or_of_the_disk_alone_is_found() {
    if !paths::is_root() {
        return; // only root has loop devices
    }
    let user = user("cache");
    let store = user.store();
    let aside = user.place.folder.join("aside");
    fs::rename(&store, &aside).expect("our folder");
    let disk = Loop::new(&user.place.folder, 1500, &store);
    copy(&aside.join("."), &store);
    fs::remove_dir_all(&aside).expect("our folder");
    let file = tree(&store.join("sdk")).join("VERSION");
    let good = fs::read(&file).expect("the file is there");
    nix::unistd::syncfs(File::open(&file).expect("the file is there")).expect("there is a disk");

    // A cached page that is right over a disk that is not: what a check with read(2) cannot see.
    disk.change_block(&file, |page| page[0] ^= 1);
    assert_eq!(
        fs::read(&file).expect("cached"),
        good,
        "the page cache does not know"
    );
    let ended = user.verify();
    assert_eq!(ended.code, 3, "{}", ended.err());
    let told = put_away(&ended);
    assert!(
        told.iter().any(|why| why.contains("on the disk only")),
        "{told:?}"
    );

    // A cached page that is wrong over a disk that is right: what an attack on the kernel leaves.
    user.builds_right("ex.example/hello");
    let sdk = File::open(&file).expect("fetched afresh");
    nix::unistd::syncfs(&sdk).expect("there is a disk");
    disk.change_block(&file, |page| page[0] ^= 1);
    forget(&file);
    assert_ne!(
        fs::read(&file).expect("from the disk"),
        good,
        "the page is wrong"
    );
    disk.change_block(&file, |page| page[0] ^= 1);
    assert_ne!(fs::read(&file).expect("cached"), good, "and stays so");
    let ended = user.verify();
    assert_eq!(ended.code, 3, "{}", ended.err());
    let told = put_away(&ended);
    assert!(
        told.iter()
            .any(|why| why.contains("in the page cache, not on the disk")),
        "{told:?}"
    );
    user.builds_right("ex.example/hello");
}
