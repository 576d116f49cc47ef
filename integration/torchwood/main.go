// Torchwood reads a log with the library of that name and nothing of hotcell.
//
//	torchwood URL VKEY
//
// It verifies the newest head and every entry, once in the form of C2SP tlog-tiles and once in that
// of the checksum database, and that both forms hold the same. It prints {"size": N} and exits with
// status 1 when anything is wrong.
//
//	torchwood -policy FILE URL
//
// It verifies the checkpoint at this address under a C2SP tlog-policy, with the cosignatures that
// the policy asks for, and prints {"size": N} in the same way.
//
//	torchwood -proof PROOF LEAF VKEY
//
// It verifies, without a network, the C2SP tlog-proof in one file for the leaf whose text is in
// another, signed by this key, and prints {}.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "torchwood:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 3 && args[0] == "-policy" {
		return cosigned(args[1], args[2])
	}
	if len(args) == 4 && args[0] == "-proof" {
		return proved(args[1], args[2], args[3])
	}
	if len(args) != 2 {
		return fmt.Errorf("usage: torchwood URL VKEY, or with -policy FILE URL, or with -proof PROOF LEAF VKEY")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	verifier, err := note.NewVerifier(args[1])
	if err != nil {
		return err
	}
	url := strings.TrimSuffix(args[0], "/") + "/"
	c2sp, size, err := entries(ctx, url, verifier, "checkpoint", parseCheckpoint(verifier.Name()))
	if err != nil {
		return fmt.Errorf("C2SP: %w", err)
	}
	sumdb, _, err := entries(ctx, url, verifier, "latest", tlog.ParseTree,
		torchwood.WithTilePath(tlog.Tile.Path))
	if err != nil {
		return fmt.Errorf("checksum database: %w", err)
	}
	for i, entry := range c2sp {
		if i < len(sumdb) && sumdb[i] != entry {
			return fmt.Errorf("entry %d is another one in the other form", i)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"size": size})
}

// cosigned verifies one checkpoint under a policy.
func cosigned(file, url string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	policy, err := torchwood.ParsePolicy(text)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: time.Minute}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	signed, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return err
	}
	checkpoint, _, err := torchwood.VerifyCheckpoint(signed, policy)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"size": checkpoint.N})
}

// proved verifies one offline proof.
func proved(file, leaf, key string) error {
	proof, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(leaf)
	if err != nil {
		return err
	}
	policy, err := torchwood.ParsePolicy([]byte("log " + key + "\nquorum none\n"))
	if err != nil {
		return err
	}
	if err := torchwood.VerifyProof(policy, tlog.RecordHash(text), proof); err != nil {
		return err
	}
	_, err = fmt.Println("{}")
	return err
}

func parseCheckpoint(origin string) func([]byte) (tlog.Tree, error) {
	return func(text []byte) (tlog.Tree, error) {
		checkpoint, err := torchwood.ParseCheckpoint(string(text))
		if err == nil && checkpoint.Origin != origin {
			err = fmt.Errorf("the checkpoint is that of %q", checkpoint.Origin)
		}
		return checkpoint.Tree, err
	}
}

// entries reads the head and all entries below it; more options mean the checksum database's form.
func entries(ctx context.Context, url string, verifier note.Verifier, head string,
	parse func([]byte) (tlog.Tree, error), options ...torchwood.TileFetcherOption,
) ([]string, int64, error) {
	fetcher, err := torchwood.NewTileFetcher(url, options...)
	if err != nil {
		return nil, 0, err
	}
	signed, err := fetcher.ReadEndpoint(ctx, head)
	if err != nil {
		return nil, 0, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return nil, 0, err
	}
	tree, err := parse([]byte(opened.Text))
	if err != nil {
		return nil, 0, err
	}
	var form []torchwood.ClientOption
	if len(options) > 0 {
		form = append(form, torchwood.WithCutEntry(torchwood.ReadSumDBEntry))
	}
	client, err := torchwood.NewClient(fetcher, form...)
	if err != nil {
		return nil, 0, err
	}
	var all []string
	for index, entry := range client.AllEntries(ctx, tree, 0) {
		if index != int64(len(all)) {
			return nil, 0, fmt.Errorf("entry %d comes after %d others", index, len(all))
		}
		all = append(all, string(entry))
	}
	if err := client.Err(); err != nil {
		return nil, 0, err
	}
	if int64(len(all)) != tree.N {
		return nil, 0, fmt.Errorf("%d entries of %d", len(all), tree.N)
	}
	return all, tree.N, nil
}
