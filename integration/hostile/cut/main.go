// Command cut ends a file system as a power cut does: what is not on the disk is gone.
// FS_IOC_SHUTDOWN with FS_SHUTDOWN_FLAGS_NOLOGFLUSH (include/uapi/linux/fs.h), for ext4 and XFS.
package main

import (
	"log"
	"os"
	"syscall"
	"unsafe"
)

func main() {
	folder, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	flags := uint32(2)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, folder.Fd(), 0x8004587d, uintptr(unsafe.Pointer(&flags)))
	if errno != 0 {
		log.Fatal(errno)
	}
}
