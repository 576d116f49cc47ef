//! Attempts that need a cell of their own; what came of them only the host can see.

#[rustfmt::skip]
attempts! {
    // 2: what the gate finds
    ("gate-setuid", 2, Gate, "leave a binary with setuid and setgid bits", |_| output(Output::SetUid)),
    ("gate-folder", 2, Gate, "leave a folder instead of a binary", |_| output(Output::Folder)),
    ("gate-sparse", 2, Gate, "leave a binary of 1 GiB and a byte that takes no room", |_| output(Output::Sparse)),
    ("gate-two", 2, Gate, "leave two binaries", |_| output(Output::Two)),
    ("gate-forged", 2, Gate, "leave a binary that no go command has made", |_| output(Output::Forged)),
    ("gate-unreadable", 2, Gate, "leave a binary that nobody may read", |_| output(Output::Unreadable)),
    ("gate-nested", 2, Gate, "leave a binary two folders deep", |_| output(Output::Nested)),
    ("gate-moving", 2, Gate, "leave a binary that eight processes move about", |_| output(Output::Moving)),

    // 4: what is hard to clear away
    ("deep-tree", 4, Gone, "leave 2,000 folders, each in the one before", |_| deep()),
    ("closed-folders", 4, Gone, "leave folders that nobody may enter", |_| closed()),
    ("renamers", 4, Gone, "leave eight processes that rename what is to be removed", |_| renamers()),

    // 5
    ("leave-setuid", 5, Gone, "leave files with setuid bits everywhere", |_| leave_setuid()),

    // 16: bombs
    ("bomb-processes", 16, Bomb("processes"), "fork until there is no more room", |a| processes_of(a, false)),
    ("bomb-zombies", 16, Bomb("processes"), "leave zombies until there is no more room", |a| processes_of(a, true)),
    ("bomb-memory", 16, Bomb("memory"), "use more memory than a process may", memory),
    ("bomb-memory-many", 16, Bomb("memory-of-all"), "use more memory in eight processes than the cell may", memory_of_many),
    ("bomb-files", 16, Bomb("files"), "open files until there is no more room", file_bomb),
    ("bomb-pipes", 16, Bomb("files"), "fill pipes with data that nobody reads", pipes),
    ("bomb-disk", 16, Bomb("scratch"), "write until the file system is full", fill),
    ("bomb-inodes", 16, Bomb("inodes"), "make files until there is no more room", inodes),
    ("bomb-sparse", 16, Bomb("file"), "make a file of 1 TiB that takes no room", |_| sparse()),
    ("bomb-output", 16, Bomb("output"), "print without end", flood),
    ("bomb-silence", 16, Bomb("silence"), "do nothing", |_| silent()),
    ("bomb-stubborn", 16, Bomb("time"), "ignore every signal and burn processor time", |_| stubborn()),
    ("bomb-threads", 16, Bomb("time"), "burn processor time in as many threads as there can be", threads),

    // 19: staying
    ("stay", 19, Gone, "leave processes in sessions of their own that ignore every signal", |_| stay()),
    ("orphan", 19, Gone, "go on when the supervisor has been killed", |_| wait_for_end()),

    // 20: what another cell sees
    ("poison", 20, Gone, "write into every cache and folder, for the next build to find", |_| poison()),
    ("poisoned", 20, Other, "look for what another cell wrote", |_| poisoned()),
    ("lock-sdk", 20, Other, "tell another cell something by a lock on a file of the SDK", |a| lock(a, SDK_FILE, false)),
    ("lock-null", 20, Other, "the same by a lock on the null device", |a| lock(a, c"/dev/null", false)),
    ("record-sdk", 20, Other, "the same by a record lock on a file of the SDK", |a| lock(a, SDK_FILE, true)),
    ("record-null", 20, Other, "the same by a record lock on the null device", |a| lock(a, c"/dev/null", true)),
}
