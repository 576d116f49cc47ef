// Closure asks the relay for what it must not give and prints one line per request: status, a space,
// what was asked; 0 stands for an end without an answer.
//
//	closure MODULE...    well-formed requests for modules outside the closure
//	closure -odd NUMBER  one request that no go command makes; without a NUMBER, how many there are
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	relay := strings.TrimPrefix(os.Getenv("GOPROXY"), "http://")
	relay, _, _ = strings.Cut(relay, "/")
	if len(os.Args) > 1 && os.Args[1] == "-odd" {
		all := odd(relay)
		if len(os.Args) == 2 {
			fmt.Println(len(all))
			return
		}
		number, _ := strconv.Atoi(os.Args[2])
		ask(relay, all[number][1], all[number][0])
		return
	}
	for _, module := range os.Args[1:] {
		for _, file := range []string{"v/list", "latest", "v/v1.0.0.info", "v/v1.0.0.mod", "v/v1.0.0.zip"} {
			ask(relay, get("/"+module+"/@"+file, relay), module+" @"+file)
		}
	}
}

func get(path, host string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"
}

// odd returns title and bytes of requests outside the grammar of the module proxy protocol.
func odd(relay string) [][2]string {
	const module = "outside.example/never1"
	var all [][2]string
	for _, path := range []string{
		"/" + module + "/@v/v1.0.0.zip/../v1.0.0.zip", "/x/../" + module + "/@v/v1.0.0.mod",
		"/outsid%65.example/never1/@v/v1.0.0.mod", "//" + module + "/@v/v1.0.0.mod",
		"/" + module + "/@v/v1.0.0.mod?a=b", "/" + module + "/@v/v1.0.0.mod#f",
		"/" + module + "%00/@v/v1.0.0.mod", "/" + module + "/@v/v1.0.0.secret", "/", "", "*",
		"/sumdb/sumdb.example/latest", "/sumdb/sumdb.example/lookup/" + module + "@v1.0.0",
		"http://192.0.2.1/" + module + "/@v/v1.0.0.mod", "http://" + relay + "/" + module + "/@v/list",
		"/%2e%2e/%2e%2e/etc/passwd", "/../../etc/passwd", "/\\..\\..", "/Outside.example/never1/@v/list",
		"/" + module + "/@v/" + strings.Repeat("a", 8000) + ".mod",
	} {
		all = append(all, [2]string{"GET " + path, get(path, relay)})
	}
	for _, method := range []string{"CONNECT", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "TRACE", "PRI", "get"} {
		all = append(all, [2]string{method, method + strings.TrimPrefix(get("/"+module+"/@v/list", relay), "GET")})
	}
	start := "GET /" + module + "/@v/list HTTP/1.1\r\nHost: x\r\n"
	return append(all,
		[2]string{"CONNECT 192.0.2.1:443", "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n"},
		[2]string{"a head of 64 KiB", start + "X: " + strings.Repeat("a", 64<<10) + "\r\n\r\n"},
		[2]string{"bare line feeds", strings.ReplaceAll(start, "\r", "") + "\n"},
		[2]string{"two lengths", start + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
		[2]string{"a body", start + "Content-Length: 5\r\n\r\nhello"},
		[2]string{"a folded field", start + "X: a\r\n b\r\n\r\n"},
		[2]string{"HTTP/0.9", "GET /" + module + "/@v/list\r\n\r\n"},
		[2]string{"no HTTP", "\x00\x01\x02\x03\r\n\r\n"},
	)
}

// ask sends these bytes and prints the status of the answer; 0 when there is none.
func ask(relay, bytes, title string) {
	status := "0"
	if connection, err := net.DialTimeout("tcp", relay, 5*time.Second); err == nil {
		connection.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprint(connection, bytes)
		line, _ := bufio.NewReader(connection).ReadString('\n')
		if fields := strings.Fields(line); len(fields) > 1 {
			status = fields[1]
		}
		connection.Close()
	} else {
		status = "refused"
	}
	if len(title) > 200 {
		title = title[:200]
	}
	fmt.Printf("%s %q\n", status, title)
}
