package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/edgenode/edgenode/node/hooktool"
)

// signatureField is the field of an upload that holds the module's signature.
const signatureField = "Edge-Hook-Signature"

// adminFlags name the admin listener that a command talks to.
type adminFlags struct {
	Admin string `env:"EDGENODE_ADMIN" default:"http://127.0.0.1:8081" help:"Base URL of the node's admin listener."`
	Token string `env:"EDGENODE_TOKEN" help:"Bearer token with the scope admin; not needed on loopback."`
}

// hookReport is what a node says of its hooks.
type hookReport struct {
	Generation uint64 `json:"generation"`
	Modules    []struct {
		Name      string   `json:"name"`
		SHA256    string   `json:"sha256"`
		Bytes     int      `json:"bytes"`
		Hooks     []string `json:"hooks"`
		Instances int      `json:"instances"`
		Open      bool     `json:"breaker_open"`
		Warnings  []string `json:"warnings"`
	} `json:"modules"`
	Uploaded []string `json:"uploaded"`
	Trial    *struct {
		Mode string `json:"mode"`
	} `json:"trial"`
}

// client returns a client for the admin listener.
func (f *adminFlags) client() (*client, error) {
	flags := nodeFlags{URL: f.Admin, Token: f.Token}
	n, err := flags.client()
	if err != nil {
		var usage *exitError
		if errors.As(err, &usage) {
			usage.err = errors.New(strings.Replace(usage.Error(), "--url", "--admin", 1))
		}
		return nil, err
	}
	n.named = "--admin or EDGENODE_ADMIN"
	return n, nil
}

// ask sends one request to the admin listener and shows the hooks as they are
// then, with asJSON as the node gave them.
func (f *adminFlags) ask(p *process, asJSON bool, r request) error {
	n, err := f.client()
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := p.interruptible()
	defer stop()
	return showHooks(ctx, p.out, n, asJSON, r)
}

func showHooks(ctx context.Context, w io.Writer, n *client, asJSON bool, r request) error {
	if r.header == nil {
		r.header = http.Header{"Content-Type": {"application/json"}}
	}
	var report hookReport
	raw, err := n.object(ctx, r, &report)
	if err != nil {
		return err
	}
	if asJSON {
		_, err := fmt.Fprintf(w, "%s\n", raw)
		return err
	}
	fmt.Fprintf(w, "generation %d, %d hooks\n", report.Generation, len(report.Modules))
	for _, m := range report.Modules {
		fmt.Fprintf(w, "%-16s %-24s %9d bytes  %.12s", m.Name, strings.Join(m.Hooks, ","), m.Bytes, m.SHA256)
		for _, name := range report.Uploaded {
			if name == m.Name {
				fmt.Fprint(w, "  uploaded")
			}
		}
		if m.Open {
			fmt.Fprint(w, "  SWITCHED OFF after faults")
		}
		for _, warning := range m.Warnings {
			fmt.Fprintf(w, "  (%s)", warning)
		}
		fmt.Fprintln(w)
	}
	if report.Trial != nil {
		fmt.Fprintf(w, "on trial: %s; see --json, then hook promote or hook abort\n", report.Trial.Mode)
	}
	return nil
}

// hookListCommand lists the hooks of a node.
type hookListCommand struct {
	jsonFlag
	adminFlags
}

// Run shows them.
func (c *hookListCommand) Run(p *process) error {
	return inHook("list", c.ask(p, c.JSON, request{method: "GET", path: "/hooks"}))
}

func inHook(command string, err error) error {
	if err != nil {
		err = fmt.Errorf("hook %s: %w", command, err)
	}
	return err
}

// loadCommand uploads a module.
type loadCommand struct {
	jsonFlag
	adminFlags
	Name   string  `arg:"" help:"Name of the hook, as in its [[hook]]."`
	Module string  `arg:"" type:"existingfile" help:"File with the module, .wasm; its signature is read from MODULE.sig if that is there."`
	Key    string  `short:"k" type:"existingfile" placeholder:"FILE" help:"Sign with this private key instead."`
	Trial  string  `enum:",shadow,canary" default:"" help:"Put it on trial only: shadow runs it beside the live one, canary lets it decide for a share."`
	Share  float64 `placeholder:"0..1" help:"Share of the traffic for a trial; default all."`
}

// Run uploads the module, after it was found to be one.
func (c *loadCommand) Run(p *process) error {
	m, err := hooktool.ReadModule(c.Module)
	if err != nil {
		return inHook("load", err)
	}
	signature, err := c.signature(m)
	if err != nil {
		return inHook("load", err)
	}
	r := request{
		method: "PUT", path: "/hooks/" + url.PathEscape(c.Name), body: bytes.NewReader(m.Code), length: int64(len(m.Code)),
		header: http.Header{"Content-Type": {"application/wasm"}}, query: url.Values{},
	}
	if signature != "" {
		r.header.Set(signatureField, signature)
	}
	if c.Trial != "" {
		r.query.Set("trial", c.Trial)
	}
	if c.Share != 0 {
		r.query.Set("share", strconv.FormatFloat(c.Share, 'g', -1, 64))
	}
	return inHook("load", c.ask(p, c.JSON, r))
}

// signature returns the signature to send, one line, or "" for none.
func (c *loadCommand) signature(m *hooktool.Module) (string, error) {
	if c.Key != "" {
		key, err := hooktool.ReadKey(c.Key)
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(string(key.Sign(m.Code))), nil
	}
	text, err := os.ReadFile(c.Module + ".sig")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

// unloadCommand takes an upload back.
type unloadCommand struct {
	jsonFlag
	adminFlags
	Name string `arg:"" help:"Name of the hook."`
}

// Run goes back to the module that the configuration names.
func (c *unloadCommand) Run(p *process) error {
	return inHook("unload", c.ask(p, c.JSON, request{method: "DELETE", path: "/hooks/" + url.PathEscape(c.Name)}))
}

// rollbackCommand goes back to the former set.
type rollbackCommand struct {
	jsonFlag
	adminFlags
}

// Run makes the former set the live one.
func (c *rollbackCommand) Run(p *process) error {
	return inHook("rollback", c.ask(p, c.JSON, request{method: "POST", path: "/hooks/rollback"}))
}

// promoteCommand ends a trial well.
type promoteCommand struct {
	jsonFlag
	adminFlags
}

// Run makes the set on trial the live one.
func (c *promoteCommand) Run(p *process) error {
	return inHook("promote", c.ask(p, c.JSON, request{method: "POST", path: "/hooks/promote"}))
}

// abortCommand ends a trial.
type abortCommand struct {
	jsonFlag
	adminFlags
}

// Run ends the trial; the live set stays.
func (c *abortCommand) Run(p *process) error {
	return inHook("abort", c.ask(p, c.JSON, request{method: "POST", path: "/hooks/abort"}))
}
