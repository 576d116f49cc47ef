// Sleeper stays until it is ended, so that the host can look at it from outside.
package main

import (
	"fmt"
	"time"
)

func main() {
	fmt.Println("here")
	for {
		time.Sleep(time.Second)
	}
}
