// Calls makes one forbidden system call, named by its argument, and says what came of it. Without an
// argument it starts itself once for each, and prints what came of that.
// A line "returned" means that the call went through to the kernel.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"unsafe"
)

// x32 makes a call in the way of x32 programs.
func x32(number uintptr) uintptr

// int80 makes a call through the gate of 32-bit programs.
func int80(number uintptr) uintptr

var path = []byte("/\x00")

func main() {
	if _, err := os.Stat("/proc/self"); err == nil {
		fmt.Println("this is no cell; some of these calls would do harm")
		os.Exit(7)
	}
	runtime.LockOSThread()
	where := uintptr(unsafe.Pointer(&path[0]))
	calls := map[string]func() (uintptr, uintptr, syscall.Errno){
		"ptrace":            raw(101, 0, 0, 0),
		"mount":             raw(165, where, where, where),
		"umount2":           raw(166, where, 0, 0),
		"unshare":           raw(272, 0x10000000, 0, 0),
		"setns":             raw(308, 0, 0, 0),
		"clone3":            raw(435, where, 0, 0),
		"clone-newuser":     raw(56, 0x10000000|17, 0, 0),
		"bpf":               raw(321, 0, 0, 0),
		"perf_event_open":   raw(298, 0, 0, 0),
		"io_uring_setup":    raw(425, 1, where, 0),
		"userfaultfd":       raw(323, 0, 0, 0),
		"keyctl":            raw(250, 0, 0, 0),
		"add_key":           raw(248, where, where, 0),
		"process_vm_readv":  raw(310, 1, 0, 0),
		"open_by_handle_at": raw(304, 0, 0, 0),
		"init_module":       raw(175, 0, 0, 0),
		"kexec_load":        raw(246, 0, 0, 0),
		"reboot":            raw(169, 0, 0, 0),
		"chroot":            raw(161, where, 0, 0),
		"pivot_root":        raw(155, where, where, 0),
		"setuid":            raw(105, 0, 0, 0),
		"personality":       raw(135, 0x0040000, 0, 0),
		"memfd_create":      raw(319, where, 0, 0),
		"seccomp":           raw(317, 0, 0, 0),
		"open_tree":         raw(428, 0, where, 0),
		"fsopen":            raw(430, where, 0, 0),
		"mknod":             raw(133, where, 0o20666, 0x0101),
		"quotactl":          raw(179, 0, 0, 0),
		"x32":               func() (uintptr, uintptr, syscall.Errno) { return x32(0x40000000 | 39), 0, 0 },
		"int80":             func() (uintptr, uintptr, syscall.Errno) { return int80(20), 0, 0 },
		"unknown":           raw(511, 0, 0, 0),
		"mmap-exec":         mapped(5),
		"fork":              raw(57, 0, 0, 0),
		"kill":              raw(62, 1, 9, 0),
		"listen":            raw(50, 0, 1, 0),
		"accept":            raw(43, 0, 0, 0),
		"sendto":            raw(44, 0, where, 0),
		"linkat":            raw(265, 0, where, 0),
		"symlinkat":         raw(266, where, 0, where),
		"setxattr":          raw(188, where, where, where),
		"landlock":          raw(444, 0, 0, 1),
		"setrlimit-core":    raw(160, 4, where, 0),
		"prlimit-core":      raw(302, 0, 4, where),
		"prctl-dumpable":    raw(157, 4, 1, 0),
		"prctl-seccomp":     raw(157, 22, 0, 0),
		"interrupted":       interrupted(raw(319, where, 0, 0)),
	}
	if len(os.Args) < 2 {
		var names []string
		for name := range calls {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			output, err := exec.Command(os.Args[0], name).Output()
			fmt.Printf("%s: %v: %s\n", name, err, strings.Join(strings.Fields(string(output)), " "))
		}
		return
	}
	call, known := calls[os.Args[1]]
	if !known {
		fmt.Println("no such call")
		os.Exit(8)
	}
	fmt.Println("trying", os.Args[1])
	result, _, errno := call()
	fmt.Println("returned", int(result), int(errno), errno)
}

func raw(number, a, b, c uintptr) func() (uintptr, uintptr, syscall.Errno) {
	return func() (uintptr, uintptr, syscall.Errno) { return syscall.RawSyscall(number, a, b, c) }
}

// mapped asks for memory with these rights.
func mapped(rights uintptr) func() (uintptr, uintptr, syscall.Errno) {
	return func() (uintptr, uintptr, syscall.Errno) {
		return syscall.RawSyscall6(9, 0, 4096, rights, 0x22, ^uintptr(0), 0)
	}
}

// interrupted makes a call while another thread interrupts it again and again: the kernel then makes
// it anew, and whoever judges it must not take the interruption for an answer.
func interrupted(call func() (uintptr, uintptr, syscall.Errno)) func() (uintptr, uintptr, syscall.Errno) {
	return func() (uintptr, uintptr, syscall.Errno) {
		thread := syscall.Gettid()
		began := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(began)
			for i := 0; i < 2000; i++ {
				syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(syscall.Getpid()), uintptr(thread), uintptr(syscall.SIGURG))
			}
		}()
		<-began
		return call()
	}
}
