// Execute tries to run everything that is not the toolchain, and prints one line for each attempt:
// what, a colon, and "ran" or why not.
//
//	execute        all of it; attempts that end the process are made by another one
//	execute NAME   one call that makes memory executable or runs a file without its path
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"unsafe"
)

// first is where programs begin: an ELF header or the line of a script.
var first = [][]byte{[]byte("\x7fELF"), []byte("#!")}

func main() {
	if len(os.Args) > 1 {
		call(os.Args[1])
		return
	}
	for _, path := range programs("/sdk") {
		try(path, "-V=full")
	}
	own, err := os.ReadFile(os.Args[0])
	if err != nil {
		fmt.Println("cannot read itself:", err)
		return
	}
	home := os.Getenv("HOME")
	for _, folder := range []string{"/tmp", home, os.Getenv("GOCACHE"), os.Getenv("GOPATH")} {
		written := filepath.Join(folder, "written")
		put(written, own)
		try(written)
		script := filepath.Join(folder, "script")
		put(script, []byte("#!/sdk/bin/go version\n"))
		try(script)
		moved := filepath.Join(folder, "moved")
		if err := os.Rename(written, moved); err != nil {
			fmt.Println("cannot move:", err)
		}
		try(moved)
	}
	for _, path := range []string{"/dev/null", "/proc/self/exe", "/bin/sh", "/sdk", "/sdk/go.env", "/sdk/bin/../bin/gofmt"} {
		try(path)
	}
	for _, name := range []string{"mmap", "mmap-file", "mmap-shared", "mprotect", "pkey_mprotect", "remap", "execveat", "memfd", "link"} {
		output, err := exec.Command(os.Args[0], name).CombinedOutput()
		text := strings.Join(strings.Fields(string(output)), " ")
		if text == "" {
			text = fmt.Sprint(err)
		}
		fmt.Printf("call %s: %s\n", name, text)
	}
}

func put(path string, content []byte) {
	os.MkdirAll(filepath.Dir(path), 0o700)
	if err := os.WriteFile(path, content, 0o700); err != nil {
		fmt.Println("cannot write:", err)
	}
}

// programs lists the files below a folder that could be run.
func programs(root string) []string {
	var all []string
	filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err == nil && (info.Mode()&0o111 != 0 || begins(path)) {
			all = append(all, path)
		}
		return nil
	})
	sort.Strings(all)
	return all
}

func begins(path string) bool {
	if strings.HasSuffix(path, ".go") {
		return false
	}
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	head := make([]byte, 4)
	n, _ := file.Read(head)
	for _, one := range first {
		if bytes.HasPrefix(head[:n], one) {
			return true
		}
	}
	return false
}

// try runs a program. What it does when it runs is of no interest here.
func try(path string, args ...string) {
	command := exec.Command(path, args...)
	err := command.Start()
	if err == nil {
		command.Wait()
		fmt.Printf("%s: ran\n", path)
		return
	}
	fmt.Printf("%s: %v\n", path, err)
}

// call makes one call that no policy allows; "returned" means that the kernel has made it.
func call(name string) {
	path := append([]byte(os.Args[0]), 0)
	where := uintptr(unsafe.Pointer(&path[0]))
	empty := uintptr(unsafe.Pointer(&[]byte{0}[0]))
	file, _ := syscall.Open(os.Args[0], syscall.O_RDONLY, 0)
	page, _, _ := syscall.RawSyscall6(9, 0, 4096, 3, 0x22, ^uintptr(0), 0)
	calls := map[string][7]uintptr{
		"mmap":          {9, 0, 4096, 7, 0x22, ^uintptr(0), 0},
		"mmap-file":     {9, 0, 4096, 5, 2, uintptr(file), 0},
		"mmap-shared":   {9, 0, 4096, 4, 1, uintptr(file), 0},
		"mprotect":      {10, page, 4096, 5},
		"pkey_mprotect": {329, page, 4096, 5, ^uintptr(0)},
		"remap":         {216, page, 4096, 0, 0, 0},
		"execveat":      {322, uintptr(file), empty, 0, 0, 0x1000},
		"memfd":         {319, where, 0},
		"link":          {265, ^uintptr(99), where, ^uintptr(99), where, 0},
	}
	c := calls[name]
	fmt.Println("trying")
	result, _, errno := syscall.RawSyscall6(c[0], c[1], c[2], c[3], c[4], c[5], c[6])
	fmt.Println("returned", int(result), errno)
}
