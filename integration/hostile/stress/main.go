// Stress becomes stress-ng, which lies with its loader and libraries in the SDK of the test.
package main

import (
	"fmt"
	"os"
	"syscall"
)

const (
	loader    = "/sdk/bin/loader"
	libraries = "/sdk/lib/stress"
	program   = "/sdk/bin/stress-ng"
)

func main() {
	args := append([]string{loader, "--library-path", libraries, program}, os.Args[1:]...)
	err := syscall.Exec(loader, args, []string{"HOME=/home", "TMPDIR=/tmp"})
	fmt.Println("cannot start stress-ng:", err)
	os.Exit(1)
}
