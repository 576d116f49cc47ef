// Bomb exhausts what its first argument names and does not stop when it is refused: what ends it is
// the cell. `crash` ends by itself, in a way that writes core dumps.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(2)
	}
	fmt.Println("begins", os.Args[1])
	if os.Args[1] != "stop" { // on a busy machine a bomb takes long: it must not end for silence
		go func() {
			for {
				time.Sleep(time.Second)
				fmt.Println("tick")
			}
		}()
	}
	switch os.Args[1] {
	case "memory": // one process
		grow(64 << 20)
	case "memories": // many, each below its own limit
		self(6, "memory-child")
		forever()
	case "memory-child":
		grow(4 << 20)
	case "disk": // the page cache of a tmpfs is its memory
		write("/tmp/disk", 1<<20)
	case "sparse":
		file, err := os.Create("/tmp/sparse")
		check(err)
		for size := int64(1 << 30); ; size *= 2 {
			check(file.Truncate(size))
			fmt.Println("made", size)
		}
	case "inodes":
		for n := 0; ; n++ {
			file, err := os.Create(fmt.Sprintf("/tmp/inode-%d", n))
			if err != nil {
				time.Sleep(time.Millisecond)
				continue
			}
			file.Close()
		}
	case "fork":
		for {
			command := exec.Command(os.Args[0], "sleep")
			if command.Start() != nil {
				time.Sleep(time.Millisecond)
			}
		}
	case "threads":
		for {
			go func() { runtime.LockOSThread(); select {} }()
			time.Sleep(100 * time.Microsecond)
		}
	case "zombies":
		for {
			command := exec.Command("/sdk/bin/go", "version")
			if command.Start() != nil { // never waited for
				time.Sleep(time.Millisecond)
			}
		}
	case "files":
		for {
			if _, err := os.Open("/sdk/VERSION"); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	case "output":
		line := strings.Repeat("x", 4096)
		for {
			fmt.Println(line)
		}
	case "spin":
		signal.Ignore(syscall.SIGTERM, syscall.SIGXCPU, syscall.SIGHUP)
		for n := 0; n < 4*runtime.NumCPU(); n++ {
			go func() {
				for {
				}
			}()
		}
		forever()
	case "stop": // SIGTERM is ignored, nothing is done
		signal.Ignore(syscall.SIGTERM)
		forever()
	case "tick":
		forever()
	case "sleep":
		time.Sleep(time.Hour)
	case "crash": // the first process cannot be ended by its own signals, so another one crashes
		command := exec.Command(os.Args[0], "crash-child")
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		fmt.Println(command.Run())
	case "crash-child":
		debug.SetTraceback("crash") // ends with SIGABRT, which dumps core
		var nothing *int
		*nothing = 1
	}
}

// forever waits; Go's runtime ends a program in which nothing can ever happen.
func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// grow takes memory and touches it.
func grow(step int) {
	var all [][]byte
	for {
		piece := make([]byte, step)
		for n := 0; n < len(piece); n += 4096 {
			piece[n] = 1
		}
		all = append(all, piece)
	}
}

// write fills a file, and goes on when it is refused.
func write(path string, step int) {
	file, err := os.Create(path)
	check(err)
	piece := make([]byte, step)
	for {
		if _, err := file.Write(piece); err != nil {
			time.Sleep(time.Millisecond)
		}
	}
}

// self starts copies of this program.
func self(count int, argument string) {
	for n := 0; n < count; n++ {
		command := exec.Command(os.Args[0], argument)
		check(command.Start())
	}
}
