package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/node/admin"
	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/node/problem"
)

// uploadDir is where uploaded modules are kept, in the data directory: NAME.upload,
// a line with the signature, empty if there is none, and then the module. It is
// one file, so that no crash and no full disk leaves a module with the signature
// of another, with which no node would start. It takes the place of the module
// that the configuration names, at each load, until it is deleted.
const uploadDir = "hooks"

// uploadTemporary is how files begin that are not whole yet.
const uploadTemporary = ".upload-"

// signatureField is the field of an upload that holds the signature.
const signatureField = "Edge-Hook-Signature"

// An upload is a module that came over HTTP.
type upload struct {
	name              string
	module, signature []byte
}

// A hooksPage is what /hooks shows.
type hooksPage struct {
	hooks.Report
	Trial    *hooks.TrialReport `json:"trial,omitempty"`
	Uploaded []string           `json:"uploaded"` // hooks whose module was uploaded
	History  []hooks.Event      `json:"history"`
}

// report is for people and tools.
func (h *hookSet) report() hooksPage {
	p := hooksPage{Report: h.host.Report(), Uploaded: []string{}, History: h.host.History()}
	if t, ok := h.host.Trial(); ok {
		p.Trial = &t
	}
	for _, m := range p.Modules {
		if _, err := os.Stat(h.file(m.Name)); err == nil {
			p.Uploaded = append(p.Uploaded, m.Name)
		}
	}
	return p
}

func (h *hookSet) file(name string) string { return filepath.Join(h.dir, name+".upload") }

// specs turns the configuration into that of the host, with uploaded modules in
// the place of those that it names. Their Path is then that of the upload.
func (h *hookSet) specs(cfg *config.Config) ([]hooks.Spec, error) {
	specs := hookSpecs(cfg)
	for i := range specs {
		name := h.file(specs[i].Name)
		u, err := readUpload(name)
		switch {
		case err == nil:
			specs[i].Path, specs[i].Bytes, specs[i].Signature = name, u.module, u.signature
		case !errors.Is(err, os.ErrNotExist):
			return nil, fmt.Errorf("uploaded module of hook %q: %w", specs[i].Name, err)
		}
	}
	return specs, nil
}

// readUpload reads what keep wrote.
func readUpload(name string) (*upload, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	signature, module, _ := bytes.Cut(text, []byte("\n"))
	return &upload{module: module, signature: signature}, nil
}

// insteadOfConfigured adds to the error of a load which of the modules are
// uploads, as they need not be those that the operator looks at.
func insteadOfConfigured(err error, cfg *config.Config, specs []hooks.Spec) error {
	var files []string
	for i := range specs {
		if specs[i].Path != cfg.Hooks[i].Module {
			files = append(files, specs[i].Path)
		}
	}
	if err == nil || len(files) == 0 {
		return err
	}
	return fmt.Errorf("%w; uploaded modules are in the place of those that the configuration names: delete %s to go back to those", err, strings.Join(files, ", "))
}

// sweep deletes what uploads left that were cut short. Nothing else may use the
// directory meanwhile.
func (h *hookSet) sweep() error {
	left, err := filepath.Glob(filepath.Join(h.dir, uploadTemporary+"*"))
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// with puts an upload into specs and reports whether there is a hook of that name.
func (u *upload) with(specs []hooks.Spec) bool {
	for i := range specs {
		if specs[i].Name == u.name {
			specs[i].Bytes, specs[i].Signature = u.module, u.signature
			return true
		}
	}
	return false
}

// keep writes an upload to disk and calls live, which makes it the live one; with
// the error of either nothing is kept. What a full disk refuses is written before
// live, so that this leaves the live set, the former one and the trial as they are.
func (h *hookSet) keep(u *upload, live func() error) error {
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return errNotKept{err}
	}
	staged, err := writeTemporary(h.dir, u.signature, []byte("\n"), u.module)
	if err != nil {
		return errNotKept{err}
	}
	if err := live(); err != nil {
		return errors.Join(err, os.Remove(staged))
	}
	if err := os.Rename(staged, h.file(u.name)); err != nil {
		return errors.Join(errNotKept{err}, os.Remove(staged), h.rollback())
	}
	if err := syncDir(h.dir); err != nil {
		return errNotKept{fmt.Errorf("it is live, but may be gone after a power loss: %w", err)}
	}
	return nil
}

// discard removes an upload, if there is one, for good.
func (h *hookSet) discard(name string) error {
	err := os.Remove(h.file(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDir(h.dir))
}

// writeTemporary writes a file that survives a power loss, for the owner only, and
// returns its name. With an error there is none.
func writeTemporary(dir string, parts ...[]byte) (string, error) {
	f, err := os.CreateTemp(dir, uploadTemporary+"*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(bytes.Join(parts, nil))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// uploadHook replaces the module of a hook, or puts it on trial. What is refused
// changes nothing; the error tells by errors.Is what it was.
func (n *Node) uploadHook(ctx context.Context, u *upload, trial *hooks.TrialOptions) error {
	cfg := n.last.Load()
	specs, err := n.hooks.specs(cfg)
	if err != nil {
		return err
	}
	if !u.with(specs) {
		return errUnknownHook
	}
	if !cfg.HooksUnsignedUpload || len(u.signature) > 0 {
		if err := n.hooks.host.Verify(u.module, u.signature); err != nil {
			return err
		}
	}
	if trial != nil {
		return n.tryHooks(ctx, u, specs, *trial)
	}
	return n.hooks.keep(u, func() error { return n.hooks.use(ctx, specs) })
}

var errUnknownHook = errors.New("node: no such hook")

// errNotKept is a failure of the disk, not of the module.
type errNotKept struct{ error }

func (e errNotKept) Unwrap() error { return e.error }

func (n *Node) tryHooks(ctx context.Context, u *upload, specs []hooks.Spec, o hooks.TrialOptions) error {
	r, err := n.hooks.host.Try(ctx, specs, o)
	if err != nil {
		return err
	}
	n.hooks.tried = u
	n.hooks.serve(usedHooks(n.hooks.host.Report().Modules) | usedHooks(r.Modules))
	return nil
}

// promoteHooks makes the set on trial the live one and keeps its upload.
func (n *Node) promoteHooks() error {
	h := n.hooks
	if _, runs := h.host.Trial(); !runs {
		return hooks.ErrNoTrial
	}
	return h.keep(h.tried, func() error {
		r, err := h.host.Promote()
		if err != nil {
			return err
		}
		h.serve(usedHooks(r.Modules))
		h.tried = nil
		return nil
	})
}

func (n *Node) abortHooks() error {
	err := n.hooks.host.Abort()
	if err == nil {
		n.hooks.tried = nil
		n.hooks.serve(usedHooks(n.hooks.host.Report().Modules))
	}
	return err
}

// discardHook goes back to the module that the configuration names. If that
// cannot be loaded, the uploaded one stays.
func (n *Node) discardHook(ctx context.Context, name string) error {
	specs := hookSpecs(n.last.Load())
	if !(&upload{name: name}).with(specs) {
		return errUnknownHook
	}
	if _, err := os.Stat(n.hooks.file(name)); err != nil {
		return nil // there is nothing to go back from
	}
	all, err := n.hooks.specs(n.last.Load())
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].Name == name {
			all[i] = specs[i]
		}
	}
	if err := n.hooks.use(ctx, all); err != nil {
		return err
	}
	if err := n.hooks.discard(name); err != nil {
		return errors.Join(errNotKept{err}, n.hooks.rollback())
	}
	return nil
}

// change runs one change of the hooks; none runs beside it or beside a reload.
func (n *Node) change(what string, f func() error) *problem.Problem {
	if !n.reloading.TryLock() {
		return problem.New(problem.ReloadRunning, ErrReloadRunning.Error())
	}
	defer n.reloading.Unlock()
	err := f()
	n.log.Info("audit: "+what, "ok", err == nil, "error", err)
	return hookProblem(err)
}

// hookProblem says what a change of the hooks failed by.
func hookProblem(err error) *problem.Problem {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errUnknownHook):
		return problem.New(problem.UnknownHook, "")
	case errors.Is(err, hooks.ErrSignature):
		return problem.New(problem.SignatureRefused, err.Error())
	case errors.Is(err, hooks.ErrTrialRuns):
		return problem.New(problem.TrialRuns, "")
	case errors.Is(err, hooks.ErrNoTrial):
		return problem.New(problem.NoTrial, "")
	case errors.As(err, &errNotKept{}) && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)):
		return problem.New(problem.Full, "the module could not be kept on disk, the hooks are as they were: "+err.Error())
	case errors.As(err, &errNotKept{}):
		return problem.New(problem.Internal, "the module could not be kept on disk: "+err.Error())
	}
	return problem.New(problem.ModuleRefused, err.Error())
}

// uploadPage answers PUT and DELETE /hooks/NAME.
func (n *Node) uploadPage(x admin.Exchange) {
	path, query, _ := strings.Cut(string(x.Target()), "?")
	name := strings.TrimPrefix(path, "/hooks/")
	ctx := context.WithoutCancel(x.Context())
	if x.Method() == "DELETE" {
		n.answerHooks(x, n.change("uploaded module of hook "+strconv.Quote(name)+" deleted", func() error { return n.discardHook(ctx, name) }))
		return
	}
	trial, p := trialOptions(query)
	if p != nil {
		n.answerHooks(x, p)
		return
	}
	u := &upload{name: name, signature: []byte(strings.TrimSpace(string(x.Header(signatureField))))}
	limit := int64(n.o.Config.HooksMaxModuleBytes)
	var err error
	if u.module, err = io.ReadAll(io.LimitReader(x.Body(), limit+1)); err != nil {
		n.answerHooks(x, problem.New(problem.BadBody, "the module did not arrive as a whole"))
		return
	}
	if int64(len(u.module)) > limit {
		n.answerHooks(x, problem.Newf(problem.ContentTooLarge, "the module has more than %d bytes; raise hooks_max_module_bytes or build smaller", limit))
		return
	}
	n.answerHooks(x, n.change("module of hook "+strconv.Quote(name)+" uploaded", func() error { return n.uploadHook(ctx, u, trial) }))
}

// trialOptions reads ?trial= and ?share=; nil is no trial.
func trialOptions(query string) (*hooks.TrialOptions, *problem.Problem) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, problem.New(problem.BadParameter, "the query cannot be read")
	}
	for name, v := range values {
		if name != "trial" && name != "share" {
			return nil, problem.Newf(problem.UnknownParameter, "%q is not known here; trial and share are", name)
		}
		if len(v) != 1 {
			return nil, problem.Newf(problem.RepeatedParameter, "give %s once", name)
		}
	}
	o := hooks.TrialOptions{Mode: values.Get("trial"), Share: 1}
	if values.Has("share") {
		if o.Share, err = strconv.ParseFloat(values.Get("share"), 64); err != nil || !(o.Share > 0 && o.Share <= 1) {
			return nil, problem.New(problem.BadParameter, "share must be above 0 and at most 1")
		}
	}
	switch {
	case !values.Has("trial") && values.Has("share"):
		return nil, problem.New(problem.BadParameter, "share needs trial=shadow or trial=canary")
	case !values.Has("trial"):
		return nil, nil
	case o.Mode != hooks.ModeShadow && o.Mode != hooks.ModeCanary:
		return nil, problem.New(problem.BadParameter, "trial must be shadow or canary")
	}
	return &o, nil
}

// promotePage and abortPage answer POST /hooks/promote and /hooks/abort.
func (n *Node) promotePage(x admin.Exchange) {
	n.answerHooks(x, n.change("hooks on trial promoted", n.promoteHooks))
}

func (n *Node) abortPage(x admin.Exchange) {
	n.answerHooks(x, n.change("trial of hooks aborted", n.abortHooks))
}

// answerHooks answers with a problem, or with the hooks as they are then.
func (n *Node) answerHooks(x admin.Exchange, p *problem.Problem) {
	if p == nil {
		n.admin.JSON(x, n.hooks.report())
		return
	}
	if err := problem.Write(x, p); err != nil {
		n.log.Debug("answer about hooks not sent", "error", err)
	}
}
