package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/edgenode/edgenode/node"
)

// versionCommand says what this binary is.
type versionCommand struct{ jsonFlag }

// build is what the binary knows of itself.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"` // built from a tree with changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
	HookABI  string `json:"hook_abi"`
}

// Run shows it.
func (c *versionCommand) Run(p *process) error {
	b := thisBuild()
	if c.JSON {
		return writeJSON(p.out, b)
	}
	commit := b.Commit
	if b.Modified {
		commit += " (modified)"
	}
	fmt.Fprintf(p.out, "edgenode %s\ncommit   %s\ngo       %s %s\nhook abi %s\n", b.Version, commit, b.Go, b.Platform, b.HookABI)
	return nil
}

func thisBuild() build {
	b := build{
		Version: "unknown", Commit: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, HookABI: node.HookABI,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}
