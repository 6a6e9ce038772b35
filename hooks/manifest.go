package hooks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/meter"
)

// Manifest is what a module says of itself, JSON in its custom section
// "edge.manifest". A module without the section has the zero Manifest and its
// hooks are those it exports.
type Manifest struct {
	Name            string            `json:"name,omitempty"`
	Hooks           []string          `json:"hooks,omitempty"`            // exported hooks it means to be used for
	Headers         []string          `json:"headers,omitempty"`          // request headers it wants to see, lower case
	ResponseHeaders []string          `json:"response_headers,omitempty"` // the same of the response, for ttl
	Capabilities    []string          `json:"capabilities,omitempty"`     // host functions it uses; header and kv_get must be listed and granted
	Fuel            map[string]uint64 `json:"fuel,omitempty"`             // by hook or "init"
	MemoryBytes     uint64            `json:"memory,omitempty"`           // linear memory
	Guards          bool              `json:"guards,omitempty"`           // it protects something: on_fault must be written out
	WASI            bool              `json:"wasi,omitempty"`             // it needs the WASI stubs
	Metrics         []Metric          `json:"metrics,omitempty"`          // ids of metric_add and metric_observe are positions
	// Inputs are what it wants to see of client, tls and size; null is all of
	// them. What is not listed is blank: address 0, flags of TLS and of the
	// client certificate 0, size unknown. A verdict that may be reused is
	// reused for all requests that look alike so.
	Inputs *[]string `json:"inputs,omitempty"`
	// Tests must hold before the module goes live.
	Tests *SelfTest `json:"tests,omitempty"`
}

// Metric is one metric of a module.
type Metric struct {
	Name string `json:"name"` // [a-z0-9_], at most 48
	Kind string `json:"kind"` // counter or histogram
}

const (
	maxManifest   = 64 << 10
	maxMetrics    = 32
	capabilityKV  = "kv_get"
	capabilityHdr = "header"
	inputClient   = "client"
	inputTLS      = "tls"
	inputSize     = "size"
)

// sees reports whether the module is shown an input.
func (mf *Manifest) sees(input string) bool {
	return mf.Inputs == nil || slices.Contains(*mf.Inputs, input)
}

func parseManifest(m *meter.Module) (Manifest, error) {
	var mf Manifest
	raw, ok := m.Custom(abi.SectionName)
	if ok {
		if len(raw) > maxManifest {
			return mf, fmt.Errorf("manifest of %d bytes, the limit is %d", len(raw), maxManifest)
		}
		d := json.NewDecoder(bytes.NewReader(bytes.TrimRight(raw, "\x00")))
		d.DisallowUnknownFields()
		if err := d.Decode(&mf); err != nil {
			return mf, fmt.Errorf("manifest: %w", err)
		}
		if _, err := d.Token(); err != io.EOF {
			return mf, errors.New("manifest: bytes after the JSON object")
		}
	}
	if len(mf.Hooks) == 0 {
		mf.Hooks = exportedHooks(m)
	}
	return mf, mf.validate(m)
}

func exportedHooks(m *meter.Module) (names []string) {
	for h := abi.Route; int(h) < abi.Hooks; h++ {
		if m.HasExport(h.Export(), meter.Func) {
			names = append(names, h.String())
		}
	}
	return names
}

func (mf *Manifest) validate(m *meter.Module) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("manifest: "+format, args...)) }
	if len(mf.Hooks) == 0 {
		fault("the module exports no hook: it needs one of edge_on_route, edge_on_ttl, edge_on_evict, edge_on_admit")
	}
	for _, name := range mf.Hooks {
		if h, ok := abi.ParseHook(name); !ok {
			fault("hook %q is unknown", name)
		} else if !m.HasExport(h.Export(), meter.Func) {
			fault("hook %q is listed, but %s is not exported", name, h.Export())
		}
	}
	for _, list := range [][]string{mf.Headers, mf.ResponseHeaders} {
		if len(list) > abi.MaxHeaders {
			fault("%d headers listed, the limit is %d", len(list), abi.MaxHeaders)
		}
		for _, name := range list {
			if name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, " \t:,\r\n") {
				fault("header %q must be a field name in lower case", name)
			}
		}
	}
	for _, c := range mf.Capabilities {
		if edgeFunctions[c].call == nil {
			fault("capability %q is unknown, capabilities are the names of host functions", c)
		}
	}
	for name := range mf.Fuel {
		if _, ok := abi.ParseHook(name); !ok && name != "init" {
			fault("fuel for %q: there are route, ttl, evict, admit, init", name)
		}
	}
	if mf.Inputs != nil {
		for _, in := range *mf.Inputs {
			if in != inputClient && in != inputTLS && in != inputSize {
				fault("input %q is unknown, there are client, tls and size", in)
			}
		}
	}
	if mf.Tests != nil && len(mf.Tests.Cases) > maxTests {
		fault("%d tests, the limit is %d", len(mf.Tests.Cases), maxTests)
	}
	mf.validateMetrics(fault)
	return errors.Join(faults...)
}

func (mf *Manifest) validateMetrics(fault func(string, ...any)) {
	if len(mf.Metrics) > maxMetrics {
		fault("%d metrics, the limit is %d", len(mf.Metrics), maxMetrics)
	}
	for _, mt := range mf.Metrics {
		if mt.Kind != "counter" && mt.Kind != "histogram" {
			fault("metric %q: kind %q, must be counter or histogram", mt.Name, mt.Kind)
		}
		if mt.Name == "" || len(mt.Name) > 48 || strings.Trim(mt.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			fault("metric %q: the name must be 1 to 48 of a-z 0-9 _", mt.Name)
		}
	}
}

// imports checks every import and says what it needs.
func (mf *Manifest) imports(m *meter.Module, grant []string) error {
	var faults []error
	for _, im := range m.Imports {
		if err := mf.importOne(im, grant); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func (mf *Manifest) importOne(im meter.Import, grant []string) error {
	switch {
	case im.Module == abi.ImportModule && edgeFunctions[im.Name].call != nil:
		if im.Name != capabilityHdr && im.Name != capabilityKV {
			return nil
		}
		if !slices.Contains(mf.Capabilities, im.Name) {
			return fmt.Errorf("import edge.%s: the manifest does not list the capability %q", im.Name, im.Name)
		}
		if !slices.Contains(grant, im.Name) {
			return fmt.Errorf("import edge.%s: not granted, add grant = [%q] to this [[hook]]", im.Name, im.Name)
		}
		return nil
	case im.Module == wasiModule && wasiFunctions[im.Name].call != nil:
		if mf.WASI {
			return nil
		}
		return fmt.Errorf("import %s.%s: the manifest does not ask for it, set \"wasi\": true or build without WASI", im.Module, im.Name)
	}
	return fmt.Errorf("import %s.%s is not offered to hooks", im.Module, im.Name)
}
