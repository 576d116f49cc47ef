// Inspect tells what a process in a cell sees and can do, as one JSON document on standard output.
//
// Arguments are name=value, each may be repeated: tcp=ADDRESS (try to connect), write=PATH (create a
// file there), change=PATH (open an existing file for writing), folder=PATH, remove=PATH, exec=PATH
// (run it without arguments), pids=N (look for processes up to this number).
package main

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Most paths that are listed below one folder, and in all.
const (
	folderMax = 40
	pathsMax  = 4000
)

type report struct {
	Arguments []string
	Folder    string
	Pid       int
	Hostname  string
	Env       []string
	Root      []string
	Paths     []string
	Present   map[string]string
	Connected map[string]string
	Written   map[string]string
	Sockets   map[string]string
	Pids      []int
	Open      map[int]string
}

func main() {
	r := report{
		Arguments: os.Args, Pid: os.Getpid(), Env: os.Environ(), Present: map[string]string{},
		Connected: map[string]string{}, Written: map[string]string{},
		Sockets: map[string]string{}, Open: map[int]string{},
	}
	descriptors(&r)
	r.Folder, _ = os.Getwd()
	r.Hostname, _ = os.Hostname()
	files(&r)
	sockets(&r)
	for _, argument := range os.Args[1:] {
		name, value, _ := strings.Cut(argument, "=")
		switch name {
		case "tcp":
			r.Connected[value] = connect(value)
		case "write":
			r.Written[argument] = write(value)
		case "change":
			file, err := os.OpenFile(value, os.O_WRONLY, 0)
			if err == nil {
				file.Close()
			}
			r.Written[argument] = said(err)
		case "exec":
			r.Written[argument] = said(exec.Command(value).Run())
		case "copy":
			r.Written[argument] = copied(value)
		case "folder":
			r.Written[argument] = said(os.Mkdir(value, 0o700))
		case "remove":
			r.Written[argument] = said(os.Remove(value))
		case "pids":
			most, _ := strconv.Atoi(value)
			signals(&r, most)
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	if err := encoder.Encode(&r); err != nil {
		os.Exit(9)
	}
}

// said turns the result of an attempt into text: "done" when it succeeded.
func said(err error) string {
	if err == nil {
		return "done"
	}
	return err.Error()
}

func files(r *report) {
	entries, err := os.ReadDir("/")
	r.Present["list of /"] = said(err)
	for _, entry := range entries {
		r.Root = append(r.Root, entry.Name())
	}
	for _, path := range []string{
		"/proc", "/proc/self/status", "/proc/1", "/sys", "/etc", "/etc/passwd", "/etc/resolv.conf",
		"/bin/sh", "/usr", "/lib", "/lib64", "/root", "/home", "/var", "/run", "/dev/null",
		"/dev/zero", "/dev/tty", "/dev/kmsg", "/dev/shm", "/dev/fuse",
	} {
		_, err := os.Stat(path)
		r.Present[path] = said(err)
	}
	// Without the right to list /, known names still lead somewhere.
	tops := map[string]bool{}
	for _, name := range r.Root {
		tops["/"+name] = true
	}
	for _, name := range []string{"GOROOT", "HOME", "TMPDIR", "GOPATH", "GOCACHE", "GOMODCACHE"} {
		if value := os.Getenv(name); value != "" {
			tops[value] = true
		}
	}
	for top := range tops {
		list(r, top)
	}
	sort.Strings(r.Paths)
}

func list(r *report, folder string) {
	if len(r.Paths) >= pathsMax || strings.Count(folder, "/") > 3 {
		return
	}
	entries, _ := os.ReadDir(folder)
	for index, entry := range entries {
		if index == folderMax {
			return
		}
		path := filepath.Join(folder, entry.Name())
		kind := ""
		if info, err := entry.Info(); err == nil {
			kind = info.Mode().String()
		}
		r.Paths = append(r.Paths, kind+" "+path)
		if entry.IsDir() {
			list(r, path)
		}
	}
}

func connect(address string) string {
	connection, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err == nil {
		connection.Close()
	}
	return said(err)
}

func write(path string) string {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = file.WriteString("written from inside a cell")
		file.Close()
	}
	return said(err)
}

// signals looks for other processes: whoever can be named can be opened.
func signals(r *report, most int) {
	for pid := 1; pid <= most; pid++ {
		fd, _, errno := syscall.RawSyscall(434, uintptr(pid), 0, 0) // pidfd_open
		if errno == 0 {
			r.Pids = append(r.Pids, pid)
			syscall.Close(int(fd))
		}
	}
}

// descriptors tells the kind of each open descriptor, before this program opens any.
func descriptors(r *report) {
	for fd := 0; fd < 256; fd++ {
		var stat syscall.Stat_t
		if syscall.Fstat(fd, &stat) == nil {
			kinds := map[uint32]string{
				syscall.S_IFIFO: "pipe", syscall.S_IFCHR: "device", syscall.S_IFDIR: "folder",
				syscall.S_IFBLK: "disk", syscall.S_IFREG: "file", syscall.S_IFSOCK: "socket",
			}
			r.Open[fd] = kinds[stat.Mode&syscall.S_IFMT]
		}
	}
}

// sockets tries families and types that a build has no use for.
func sockets(r *report) {
	for name, kind := range map[string][2]int{
		"unix": {1, 1}, "udp": {2, 2}, "raw": {2, 3}, "ipv6": {10, 1}, "netlink": {16, 3},
		"packet": {17, 3}, "alg": {38, 5}, "vsock": {40, 1}, "xdp": {44, 3},
	} {
		fd, err := syscall.Socket(kind[0], kind[1], 0)
		if err == nil {
			syscall.Close(fd)
		}
		r.Sockets[name] = said(err)
	}
}

// copied tries to run a file that this program has made.
func copied(path string) string {
	bytes, err := os.ReadFile(os.Args[0])
	if err != nil {
		return "cannot read itself: " + err.Error()
	}
	if err := os.WriteFile(path, bytes, 0o700); err != nil {
		return "cannot write: " + err.Error()
	}
	return said(exec.Command(path).Run())
}
