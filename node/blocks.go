package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/node/proxy"
	"github.com/edgenode/edgenode/tiers"
)

// blocksFile stands in the data directory beside the snapshot of memory (l1_snapshot)
// and has the header lines that answers in it share: without it they are misses. As
// that one it serves one start.
const blocksFile = "l1.blocks"

// takeBlocks reads the file of the process before and removes it; nil for none.
func (n *Node) takeBlocks(cfg *config.Config) []byte {
	path := filepath.Join(cfg.DataDir, blocksFile)
	kept, err := readBlocks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if rerr := os.Remove(path); err == nil {
		err = rerr
	}
	if err != nil {
		n.log.Warn("shared header lines of the process before not used: stored answers with them are fetched again", "error", err)
	}
	if !cfg.L1Snapshot {
		return nil
	}
	return kept
}

// readBlocks reads the file, unless it is larger than any that keepBlocks writes.
func readBlocks(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > proxy.MaxKeptBlocks {
		return nil, fmt.Errorf("node: %s has %d bytes, at most %d are written", path, info.Size(), proxy.MaxKeptBlocks)
	}
	return os.ReadFile(path)
}

// keepBlocks writes the file. It comes when nothing is stored any more and before the
// engine writes its snapshot, so that each answer in that has its lines.
func (n *Node) keepBlocks(cfg *config.Config) {
	if !cfg.L1Snapshot {
		return
	}
	if err := tiers.ReplaceFile(filepath.Join(cfg.DataDir, blocksFile), n.proxy.AppendBlocks(nil)); err != nil {
		n.log.Warn("shared header lines not kept: stored answers with them are fetched again after the start", "error", err)
	}
}
