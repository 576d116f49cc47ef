// Xmod is an independent client of a log: the Go project's own sumdb packages and nothing of hotcell.
//
//	xmod URL VKEY [-old FILE] [-get FOLDER] [KEY...]
//
// It verifies the signed head, every record of the log through authenticated tiles, that each KEY is
// looked up to the record in the tree, and that the head in FILE, when given, is a prefix. With
// FOLDER it downloads the binary of each KEY, where clients of gobuild look for it, and compares it
// with its record. It prints {"size": N, "note": "…", "records": ["…"]} and exits with status 1 when
// anything is wrong.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// height of the tiles, as the checksum database has it.
const height = 8

// answerMax is the most that one answer may hold.
const answerMax = 4 << 20

// binaryMax is the largest binary that is kept.
const binaryMax = 256 << 20

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "xmod:", err)
		os.Exit(1)
	}
}

type client struct {
	url       string
	verifiers note.Verifiers
	// full tiles that were authenticated.
	full map[tlog.Tile][]byte
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: xmod URL VKEY [-old FILE] [-get FOLDER] [KEY...]")
	}
	verifier, err := note.NewVerifier(args[1])
	if err != nil {
		return err
	}
	c := &client{strings.TrimSuffix(args[0], "/"), note.VerifierList(verifier), map[tlog.Tile][]byte{}}
	args = args[2:]
	text, err := c.get("/latest")
	if err != nil {
		return err
	}
	tree, err := c.open(text)
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, c)
	if len(args) > 1 && args[0] == "-old" {
		if err := c.extends(args[1], tree, hashes); err != nil {
			return err
		}
		args = args[2:]
	}
	folder := ""
	if len(args) > 1 && args[0] == "-get" {
		folder, args = args[1], args[2:]
	}
	records, err := c.records(tree, hashes)
	if err != nil {
		return err
	}
	for _, key := range args {
		record, err := c.lookup(key, records)
		if err == nil && folder != "" {
			err = c.download(record, folder)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"size": tree.N, "note": string(text), "records": records,
	})
}

func (c *client) get(path string) ([]byte, error) {
	client := http.Client{Timeout: 5 * time.Minute}
	response, err := client.Get(c.url + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerMax))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %s", path, response.Status, body)
	}
	return body, nil
}

// open verifies a signed head.
func (c *client) open(text []byte) (tlog.Tree, error) {
	opened, err := note.Open(text, c.verifiers)
	if err != nil {
		return tlog.Tree{}, err
	}
	return tlog.ParseTree([]byte(opened.Text))
}

// extends checks that the head in a file is a prefix of tree, through authenticated tiles and, once
// more, through an explicit proof.
func (c *client) extends(file string, tree tlog.Tree, hashes tlog.HashReader) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	old, err := c.open(text)
	if err != nil {
		return err
	}
	if old.N > tree.N {
		return fmt.Errorf("the log shrank from %d to %d", old.N, tree.N)
	}
	if old.N == 0 {
		return nil
	}
	root, err := tlog.TreeHash(old.N, hashes)
	if err != nil {
		return err
	}
	if root != old.Hash {
		return fmt.Errorf("the log of %d records has another history", old.N)
	}
	proof, err := tlog.ProveTree(tree.N, old.N, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash)
}

// records reads all records from the data tiles and proves each to be in the tree.
func (c *client) records(tree tlog.Tree, hashes tlog.HashReader) ([]string, error) {
	var records []string
	for tree.N > int64(len(records)) {
		first := int64(len(records))
		width := min(tree.N-first, 1<<height)
		tile := tlog.Tile{H: height, L: -1, N: first >> height, W: int(width)}
		data, err := c.get("/" + tile.Path())
		if err != nil {
			return nil, err
		}
		texts := bytes.Split(bytes.TrimSuffix(data, []byte("\n\n")), []byte("\n\n"))
		if int64(len(texts)) != width {
			return nil, fmt.Errorf("%s holds %d records", tile.Path(), len(texts))
		}
		for offset, text := range texts {
			record := string(text) + "\n"
			if err := prove(tree, hashes, first+int64(offset), record); err != nil {
				return nil, err
			}
			records = append(records, record)
		}
	}
	return records, nil
}

// prove checks that the text is the record of this number.
func prove(tree tlog.Tree, hashes tlog.HashReader, id int64, text string) error {
	hash := tlog.RecordHash([]byte(text))
	proof, err := tlog.ProveRecord(tree.N, id, hashes)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, id, hash); err != nil {
		return fmt.Errorf("record %d: %w", id, err)
	}
	return nil
}

// lookup asks for one key, verifies the head that comes with it and compares with the data tiles.
func (c *client) lookup(key string, records []string) (string, error) {
	answer, err := c.get("/lookup/" + key)
	if err != nil {
		return "", err
	}
	id, text, rest, err := tlog.ParseRecord(answer)
	if err != nil {
		return "", err
	}
	tree, err := c.open(rest)
	if err != nil {
		return "", err
	}
	if err := prove(tree, tlog.TileHashReader(tree, c), id, string(text)); err != nil {
		return "", err
	}
	if id < int64(len(records)) && records[id] != string(text) {
		return "", fmt.Errorf("record %d is another one in the data tiles", id)
	}
	return string(text), nil
}

// download fetches the compressed binary of a record into folder, from the address that clients of
// gobuild make of it: the name is the last element of the path, whatever it says.
func (c *client) download(record, folder string) error {
	fields := strings.Split(strings.TrimSuffix(record, "\n"), " ")
	if len(fields) != 9 {
		return fmt.Errorf("a record of %d fields", len(fields))
	}
	module, version, dir, goos, goarch := fields[0], fields[1], fields[2], fields[3], fields[4]
	goversion, size, sum, variant := fields[5], fields[6], fields[7], fields[8]
	name, target := path.Base(module+dir), goos+"-"+goarch+"-"+goversion
	file := name + "-" + version + "-" + goversion
	if variant != "" {
		target += "-" + variant
		file += "-" + variant
	}
	if goos == "windows" {
		file += ".exe"
	}
	address := strings.TrimSuffix(c.url, "/tlog") + "/" +
		path.Join(module+"@"+version, dir, target, sum, file+".gz")
	response, err := http.Get(address)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", address, response.Status)
	}
	unpacked, err := gzip.NewReader(response.Body)
	if err != nil {
		return err
	}
	bytes, err := io.ReadAll(io.LimitReader(unpacked, binaryMax))
	if err != nil {
		return err
	}
	hash := sha256.Sum256(bytes)
	found := "0" + base64.RawURLEncoding.EncodeToString(hash[:20])
	if found != sum || strconv.Itoa(len(bytes)) != size {
		return fmt.Errorf("%s has sum %s and %d bytes", address, found, len(bytes))
	}
	return os.WriteFile(filepath.Join(folder, name), bytes, 0o755)
}

// Height, ReadTiles and SaveTiles make the client a tile reader.
func (c *client) Height() int { return height }

// ReadTiles reads tiles; when a partial one is gone, the full one.
func (c *client) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		if data, ok := c.full[tile]; ok {
			all = append(all, data)
			continue
		}
		data, err := c.get("/" + tile.Path())
		if err != nil {
			full := tile
			full.W = 1 << height
			if data, err = c.get("/" + full.Path()); err != nil {
				return nil, err
			}
			data = data[:min(len(data), tile.W*tlog.HashSize)]
		}
		all = append(all, data)
	}
	return all, nil
}

// SaveTiles keeps full tiles for this run; the next one starts from nothing.
func (c *client) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, tile := range tiles {
		if tile.W == 1<<height {
			c.full[tile] = data[i]
		}
	}
}
