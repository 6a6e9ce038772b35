// Command edgemanifest puts a manifest into a WASM module as its custom section
// edge.manifest, in place:
//
//	edgemanifest -manifest manifest.json module.wasm
//
// It refuses a module that has one already and a manifest that is not JSON.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/meter"
)

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "edgemanifest:", err)
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("edgemanifest", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("manifest", "manifest.json", "file with the manifest")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("want one module, got %d", flags.NArg())
	}
	manifest, err := os.ReadFile(*path)
	if err != nil {
		return err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, manifest); err != nil {
		return fmt.Errorf("%s: %w", *path, err)
	}
	code, err := os.ReadFile(flags.Arg(0))
	if err != nil {
		return err
	}
	m, err := meter.Parse(code)
	if err != nil {
		return fmt.Errorf("%s: %w", flags.Arg(0), err)
	}
	if _, ok := m.Custom(abi.SectionName); ok {
		return fmt.Errorf("%s has a manifest already", flags.Arg(0))
	}
	return os.WriteFile(flags.Arg(0), meter.AppendCustom(code, abi.SectionName, compact.Bytes()), 0o644)
}
